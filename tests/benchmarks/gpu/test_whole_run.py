"""A whole run of all parts on a machine with 16 processors that compiles slowly, in virtual time.

Parts, shares, limits and budgets are the command's own; what takes time on a GPU takes it from a clock of the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import parts
from benchmarks.gpu.processes import Job
from tests.benchmarks.gpu.virtual import Memory, Running, Time, synchronous

pytestmark = pytest.mark.slow(5)

pytest.importorskip("torch")
HERE = parts.Machine(16, 143771, 120 << 30, ["torch", "torch-eager"])
ABOUT = {"device": "A GPU", "driver": "", "commit": "", "versions": {"cuda": "none", "torch": "any", "triton": "any"}}
PROBED = 10.0  # when the parts begin
ALL = 480.0
Row = tuple[float, str, dict[str, Any], dict[str, Any]]


class Machine:
    """How long everything takes, in seconds of a clock.

    Attributes:
        network: torch's compiler, for a network that it sees for the first time; again: one that it has compiled.
        libraries: a process, until it is ready; eager: a network that is not compiled, until it runs.
        kernel: compiling one of ours. restore, timed: a restore; a kernel's measurement.
        hangs: the side of the square pictures at which torch's compiler does not end.
        crashes: names of jobs that end with SIGSEGV.
    """

    def __init__(self, network: float = 60.0, hangs: int = 0, crashes: tuple[str, ...] = ()) -> None:
        self.network, self.again, self.libraries, self.eager, self.kernel = network, 12.0, 10.0, 2.0, 1.2
        self.restore, self.timed = 0.02, 0.2
        self.hangs, self.crashes = hangs, crashes
        self.time, self.compiled = Time(), set()  # type: tuple[Time, set[Any]]

    def load(self, name: str, side: int) -> None:
        if name not in (parts.ENGINE, parts.COMPILED):
            self.time.take(self.eager)
            return
        if side == self.hangs:
            self.time.take(1e9)
        self.time.take(self.again if (name, side) in self.compiled else self.network)
        self.compiled.add((name, side))

    def benches(self) -> tuple[Any, Any]:
        """`restores.Bench` and `kernels.Bench`, of which all that needs a GPU takes time instead."""
        from benchmarks.gpu import kernels, restores

        machine, picture = self, np.zeros((1, 1, 1, 3), np.uint8)

        def restored() -> Any:
            machine.time.take(machine.restore)
            return picture

        class Restores(restores.Bench):
            def __init__(self, *given: Any, **more: Any) -> None:
                super().__init__(*given, say=lambda line: None, place="cpu", now=machine.time.now, **more)

            def _load(self, stack: Any, case: Any) -> Any:
                machine.load(case.engine, case.side)
                return {"restore": restored, "network": restored}

            def _picture(self, case: Any, precision: str) -> Any:
                machine.load("torch-eager", case.side)
                return picture.astype(float)

        class Kernels(kernels.Bench):
            def measure_copy(self) -> None:
                self._take("gpu copy", 1.0)

            def measure_kernel(self, case: Any) -> None:
                compiling = 0.0 if case.name in machine.compiled else machine.kernel
                machine.compiled.add(case.name)
                self._take(f"gpu {case.name}", compiling + machine.timed)

            def measure_rivals(self, case: Any) -> None:
                self._take(f"gpu {case.name} against torch", 2.0)

            def _take(self, name: str, seconds: float) -> None:
                machine.time.take(seconds)
                self.kept.add(name, {}, {})

        return Restores, Kernels


class Run:
    """What a run left: rows with their seconds, jobs with those of their beginnings, lines, what was wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, machine: Machine, known: Any = None, ends: float = 0.0) -> None:
        self.machine, self.time, self.started = machine, machine.time, []  # type: tuple[Machine, Time, list[Any]]
        self.time.seconds, self.time.interrupted = PROBED, None
        self.kept, self.said, self.wrong, self.ends = Memory(self.time, known), [], [], ends  # type: Any
        kernels, restores, worker = (
            pytest.importorskip(f"benchmarks.gpu.{name}") for name in ("kernels", "restores", "worker")
        )
        benches = machine.benches()
        with monkeypatch.context() as patched:
            patched.setattr(worker, "_kept", lambda given: self.kept)
            patched.setattr(restores, "Bench", benches[0])
            patched.setattr(kernels, "Bench", benches[1])
            patched.setattr(kernels, "clock_of", lambda: None)
            self.work: dict[str, Callable[..., int]] = worker.WORK
            planned = parts.planned([], ALL - PROBED, HERE)
            self.time.interrupted = ends or None
            try:
                self.wrong = parts.run_parts(planned, ALL, self.kept, self.start, self.time, self.said.append)
            except KeyboardInterrupt:
                assert ends

    def start(self, job: Job, limit: float) -> Running:
        self.started.append((self.time.now(), job.name))
        machine, libraries = self.machine, self.machine.libraries
        if job.name in machine.crashes:
            return Running(self.time, libraries, -11)
        if job.work == "tests":
            compiled = "compiled" in job.name or "half" in job.name
            return Running(
                self.time, libraries + (machine.network if compiled else 15 * machine.kernel), 0, "1 passed in 1s"
            )
        self.time.interrupted = None
        try:
            process = synchronous(self.time, lambda: self._worked(job, limit))
        finally:
            self.time.interrupted = self.ends or None
        if job.work == "prepare_restore" and process.ends > limit:
            machine.compiled.discard((job.given["name"], job.given["cases"][0][0]))
        # What a process would have known after it was ended, it never told.
        self.kept.rows[:] = [row for row in self.kept.rows if row[0] <= min(limit, self.ends or limit)]
        return process

    def _worked(self, job: Job, limit: float) -> int:
        self.time.take(self.machine.libraries)
        if job.work == "prepare_kernels":
            from benchmarks.gpu import cases

            self.time.take(10 * self.machine.kernel)
            self.machine.compiled |= {case.name for case in cases.bar_cases()}
            return 0
        return self.work[job.work]({**job.given, "end": limit - 3, "about": ABOUT}, self.time.now)

    def restores(self, side: int, evaluations: int) -> dict[str, float]:
        """Rows of one case by what they are, with their seconds."""
        return {
            case.removeprefix("gpu "): second
            for second, case, settings, _ in self.kept.rows
            if (settings.get("side"), settings.get("evaluations"), settings.get("engine"))
            == (side, evaluations, "torch")
        }

    def seconds(self, beginning: str) -> list[float]:
        return [second for second, case, _, _ in self.kept.rows if case.startswith(beginning)]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    return lambda machine, **more: Run(monkeypatch, machine, **more)


WHOLE = {"restore", *(f"restore against {form}" for form in parts.FORMS), "replays", "launches"}


def test_the_most_important_rows_come_first_and_all_of_them_within_eight_minutes(run: Callable[..., Run]) -> None:
    whole = run(Machine())
    assert whole.wrong == []
    assert whole.time.now() <= ALL
    first = whole.restores(256, 10)
    assert set(first) == WHOLE
    # A minute of torch's compiler for us, and one for its own graphs.
    assert first["restore"] <= 100
    assert first["restore against compile bf16"] <= 170
    # Every part has rows, in its order.
    larger = [list(whole.restores(side, 10).values()) for side in (512, 1024)]
    orders = [[first["restore"]], whole.seconds("gpu tests"), whole.seconds("gpu copy"), *larger]
    assert all(orders)
    begins = [min(seconds) for seconds in orders]
    assert begins == sorted(begins)
    for side, evaluations in ((256, 5), (512, 10), (1024, 10)):
        assert set(whole.restores(side, evaluations)) == WHOLE - {"replays", "launches"}
    # All kernels with their rivals, and the other engine beside ours.
    assert len([row for row in whole.kept.rows if "torch" in row[1] and row[1].startswith("gpu step")]) == 8
    assert any(
        row[2].get("engine") == "torch-eager" and row[1] == "gpu restore against torch" for row in whole.kept.rows
    )


def test_tests_begin_with_the_runtimes_and_use_all_processors(run: Callable[..., Run]) -> None:
    whole = run(Machine())
    names = [name for _, name in whole.started]
    tests = [name for name in names if name.startswith(("tests/", "compiling"))]
    assert tests[0].startswith("tests/runtime/cuda/test_gpu.py::")
    begin = next(second for second, name in whole.started if name == tests[0])
    assert sum(second == begin for second, _ in whole.started) == 16


@pytest.mark.parametrize("network", [5.0, 30.0, 100.0, 150.0, 400.0])
def test_however_slow_the_compiler_is_it_ends_in_time_with_what_there_was_time_for(
    run: Callable[..., Run], network: float
) -> None:
    whole = run(Machine(network))
    assert whole.time.now() <= ALL + 0.1
    assert bool(whole.restores(256, 10)) == (network < 190)
    assert whole.seconds("gpu tests")
    assert whole.seconds("gpu copy")


def test_a_part_that_hangs_is_ended_at_its_limit_and_the_next_goes_on(run: Callable[..., Run]) -> None:
    whole = run(Machine(hangs=256))
    assert whole.wrong[0].startswith("restores 256: stopped after 20")
    assert whole.restores(256, 10) == {}
    assert set(whole.restores(512, 10)) >= {"restore", "restore against eager bf16"}
    whole = run(Machine(hangs=512))
    (wrong,) = whole.wrong
    assert wrong.startswith("size 512: stopped after")
    assert set(whole.restores(1024, 10)) >= {"restore", "restore against eager bf16"}
    assert whole.time.now() <= ALL


@pytest.mark.parametrize("name", ["restores 256", "kernels", "size 512", "compiling kernels, 1 of 4"])
def test_a_part_that_crashes_is_named_and_the_next_goes_on(run: Callable[..., Run], name: str) -> None:
    whole = run(Machine(crashes=(name,)))
    assert whole.wrong == [f"{name}: ended by SIGSEGV"]
    assert whole.started[-1][1] == "engine torch-eager"


@pytest.mark.parametrize("ends", [95.0, 180.0, 230.0, 300.0])
def test_a_run_that_was_ended_goes_on_with_what_is_missing(run: Callable[..., Run], ends: float) -> None:
    first = run(Machine(), ends=ends)
    known = first.kept.rows
    assert known
    assert max(row[0] for row in known) <= ends
    # On a fresh machine, which has compiled nothing.
    second = run(Machine(), known=known)
    once = {repr(row[1:3]) for row in known if row[1] == "gpu tests" or "engine" in row[2]}
    twice = {repr(row[1:3]) for row in second.kept.rows}
    assert not once & twice
    assert second.time.now() <= ALL
    both = {case for rows in (known, second.kept.rows) for _, case, settings, _ in rows if settings.get("side") == 256}
    assert {f"gpu {row}" for row in WHOLE} <= both
