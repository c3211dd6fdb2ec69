"""The command: what it asks the machine first, which parts run until when, and what it ends with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.processes import NOT_STARTED
from mrs.runtime.errors import InputError
from tests.benchmarks.gpu.virtual import Running, Time

ABOUT = {"device": "A GPU", "driver": "580.1", "commit": "abc", "memory_mib": 81920, "versions": {"torch": "2.11.0"}}
ENGINES = {"tensorrt": "tensorrt is not installed: pip install it", "torch": None, "torch-eager": None}
ANSWER = json.dumps({"about": ABOUT, "engines": ENGINES})


class World:
    """A machine in virtual time.

    Attributes:
        time: its clock.
        script: seconds, code and output of jobs by name; `else` of all others.
        started: names, what they were told, and seconds until they should end.
    """

    def __init__(self) -> None:
        self.time = Time()
        self.script: dict[str, Any] = {
            "looking for a GPU": (7.0, 0, f"a warning\n{ANSWER}\n"),
            "else": (1.0, 0, "1 passed in 1s"),
        }
        self.started: list[tuple[str, dict[str, Any], float]] = []

    def starting(self, given: dict[str, Any]) -> Callable[..., Running]:
        def start(job: Any, limit: float) -> Running:
            self.started.append((job.name, {**given, **job.given}, limit - self.time.now()))
            return Running(self.time, *self.script.get(job.name, self.script["else"]))

        return start

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.started]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(command.device, "need_packages", lambda: None)
    monkeypatch.setattr(command, "SystemClock", lambda: made.time)
    monkeypatch.setattr(command, "starting", made.starting)
    monkeypatch.setattr(command.machine, "threads", lambda: 16)
    monkeypatch.setattr(command.machine, "free_memory", lambda: 128 << 30)
    return made


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(rows: Path, *arguments: str) -> int:
    return command.main([*arguments, "--rows", str(rows)])


def test_the_most_important_part_comes_first_and_all_of_it_ends_in_eight_minutes(world: World, rows: Path) -> None:
    assert run(rows) == 0
    assert world.names[:2] == ["looking for a GPU", "restores 256"]
    assert world.names[2].startswith("tests/runtime/cuda/test_gpu.py::")
    assert world.names[-4:] == ["kernels", "size 512", "size 1024", "engine torch-eager"]
    world.script["else"] = (float("inf"),)
    world.time.seconds = 0
    assert run(rows) == 1
    assert world.time.now() == pytest.approx(480, abs=5)


def test_each_part_has_its_share_and_what_those_before_it_left(world: World, rows: Path) -> None:
    world.script["restores 256"] = (50.0,)
    run(rows, "restores", "kernels", "--seconds", "200")
    given = {name: seconds for name, _, seconds in world.started}
    assert given["restores 256"] == pytest.approx(193 * 205 / 255, abs=0.1)
    assert given["kernels"] == pytest.approx(143, abs=0.2)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [([], 480), (["tests"], 95), (["tests", "tests"], 95), (["sizes", "--seconds", "900"], 900)],
)
def test_a_part_alone_has_no_more_than_its_seconds(
    world: World, rows: Path, arguments: list[str], seconds: float
) -> None:
    world.script["else"] = (float("inf"),)
    assert run(rows, *arguments) == 1
    assert world.time.now() == pytest.approx(seconds, abs=5)


def test_every_worker_is_told_where_rows_go_and_what_they_say(world: World, rows: Path) -> None:
    run(rows, "--commit", "given", "--skip-measured", "restores", "kernels")
    probe, *others = [given for _, given, _ in world.started]
    assert probe["commit"] == "given"
    for given in others:
        assert (given["rows"], given["skip"], given["about"]) == (str(rows), True, ABOUT)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [((1.0, -11), "ended by SIGSEGV"), ((1.0, 3), "wrong results"), ((1.0, 1), "ended with code 1"),
     ((float("inf"),), "stopped after")],
    ids=["crashes", "is wrong", "fails", "hangs"],
)  # fmt: skip
@pytest.mark.parametrize("job", ["restores 256", "tests/kernels/gpu/test_step.py", "kernels", "size 512"])
def test_what_goes_wrong_is_named_and_the_others_go_on(
    world: World, rows: Path, capsys: pytest.CaptureFixture[str], job: str, outcome: Any, said: str
) -> None:
    world.script[job] = outcome
    assert run(rows) == 1
    assert world.names[-1] == "engine torch-eager"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"WRONG: {job}: ")
    assert said in last


def test_compiling_in_vain_is_said_and_is_no_wrong_result(
    world: World, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.script["compiling torch at 512"] = (float("inf"),)
    assert run(rows) == 0
    assert "compiling torch at 512: stopped after" in capsys.readouterr().out
    world.script["compiling torch at 512"] = (1.0, -9)
    assert run(rows) == 1


def test_what_has_no_time_left_is_said(world: World, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(rows, "--seconds", "7") == 1
    out = capsys.readouterr().out
    assert f"restores 256: {NOT_STARTED}" in out
    # Of timings that is no wrong result, of tests it is.
    assert f"WRONG: restores 256: {NOT_STARTED}" not in out
    assert f"; {NOT_STARTED}" in next(line for line in out.splitlines() if line.startswith("WRONG: tests/"))
    assert not rows.exists()


def test_each_test_leaves_a_row_as_it_ends(world: World, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world.script["else"] = (1.0, 0, "3 passed, 1 skipped in 1s")
    world.script["tests/kernels/gpu/test_step.py"] = (1.0, 1, "1 failed, 2 passed in 1s")
    run(rows, "tests")
    found = {row["settings"]["tests"]: row for row in rows_of(rows)}
    first = found[next(name for name in world.names if name.startswith("tests/"))]
    assert (first["case"], first["device"], first["commit"]) == ("gpu tests", "A GPU", "abc")
    assert (first["figures"]["passed"], first["figures"]["skipped"], first["figures"]["trouble"]) == (3, 1, "")
    assert found["tests/kernels/gpu/test_step.py"]["figures"]["trouble"] == "ended with code 1"
    assert "tests/kernels/gpu/test_step.py: 2 passed, 1 failed, 0 skipped" in capsys.readouterr().out


def test_a_run_that_was_ended_goes_on_with_what_is_missing(
    world: World, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = "tests/kernels/gpu/test_step.py"
    world.script |= {"else": (3.0, 0, "1 passed in 3s"), failing: (1.0, 1, "1 failed in 1s")}
    world.time.interrupted = 12.0
    assert run(rows, "tests") == 130
    first = [row["settings"]["tests"] for row in rows_of(rows)]
    assert failing in first
    world.time.interrupted, world.script[failing] = None, (1.0, 0, "1 passed in 1s")
    world.started.clear()
    assert run(rows, "tests", "--skip-measured") == 0
    assert f"measured before: {len(first) - 1} of " in capsys.readouterr().out
    again = [name for name in world.names if name.startswith("tests/")]
    assert set(again) & set(first) == {failing}
    assert {row["settings"]["tests"] for row in rows_of(rows)} == set(first) | set(again)


@pytest.mark.parametrize("commit", ["", "abc+"])
def test_without_a_commit_all_is_measured_again_with_a_note(
    world: World, rows: Path, capsys: pytest.CaptureFixture[str], commit: str
) -> None:
    world.script["looking for a GPU"] = (1.0, 0, json.dumps({"about": ABOUT | {"commit": commit}, "engines": ENGINES}))
    for _ in range(2):
        assert run(rows, "tests", "--skip-measured") == 0
    assert capsys.readouterr().err.count("note: all is measured again") == 2
    names = [name for name in world.names if name.startswith("tests/")]
    assert len(names) == 2 * len(set(names))


def test_engines_that_cannot_run_are_skipped_by_name(
    world: World, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(rows, "engines")
    assert "skipped: tensorrt: tensorrt is not installed" in capsys.readouterr().out
    assert world.names[1:] == ["engine torch-eager"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [((1.0, 0, '{"error": "torch finds no NVIDIA GPU here", "hint": "nvidia-smi"}'), "torch finds no NVIDIA GPU here"),
     ((1.0, -11, "Segmentation"), "torch could not be asked for a GPU: ended by SIGSEGV: Segmentation"),
     ((float("inf"),), "torch could not be asked for a GPU: stopped after 60 s, its limit"),
     ((1.0, 0, ""), "torch could not be asked for a GPU: it said nothing")],
    ids=["none", "crashes", "hangs", "is silent"],
)  # fmt: skip
def test_without_a_gpu_nothing_is_measured(
    world: World, rows: Path, capsys: pytest.CaptureFixture[str], answer: Any, said: str
) -> None:
    world.script["looking for a GPU"] = answer
    assert run(rows) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {said}; hint: ")
    assert world.names == ["looking for a GPU"]


def test_an_unknown_part_is_refused(world: World, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(rows, "kernel") == 2
    said = "error: part 'kernel' is unknown; hint: use restores, tests, kernels, sizes, engines\n"
    assert capsys.readouterr().err == said
    assert world.started == []


def test_parts_are_planned_for_the_machine_at_hand() -> None:
    from benchmarks.gpu.parts import Machine, planned

    def tests_of(**more: Any) -> Any:
        here = {"cores": 16, "device_mib": 81920, "free_bytes": 128 << 30, "engines": ["torch"]} | more
        return next(part for part in planned([], 480, Machine(**here)) if part.name == "tests")

    large, small, plain = tests_of(), tests_of(cores=4, device_mib=8192), tests_of(device_mib=2000)
    assert (large.at_once, small.at_once, plain.at_once) == (16, 4, 1)
    assert tests_of(free_bytes=10 << 30).at_once == 3
    assert tests_of(free_bytes=None).at_once == 16
    # Many processors begin early with what takes longest; few do the tests first; one does nothing beside them.
    works = [[job.work for job in part.jobs] for part in (large, small, plain)]
    runtime = sum("test_gpu.py" in job.name for job in large.jobs)
    assert set(works[0][:runtime]) == {"tests"}
    assert works[0][runtime].startswith("prepare")
    assert works[1][-1].startswith("prepare")
    assert set(works[2]) == {"tests"}
    # Together they compile on as many threads as there are processors.
    assert {job.environment["TORCHINDUCTOR_COMPILE_THREADS"] for job in large.jobs if job.work == "tests"} == {"1"}
    assert {job.environment["TORCHINDUCTOR_COMPILE_THREADS"] for job in large.jobs if job.work != "tests"} == {"4"}


def test_what_is_timed_compiles_on_as_many_threads_as_torch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone on the machine: torch reads the variable once, so that whoever sets it sets it for the whole process."""
    import os

    from benchmarks.gpu.parts import Machine, planned

    parts = planned([], 480, Machine(16, 81920, None, ["torch", "torch-eager"]))
    assert not any(job.environment for part in parts if part.name != "tests" for job in part.jobs)
    torch, rivals = pytest.importorskip("torch"), pytest.importorskip("benchmarks.gpu.rivals")
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    rivals.default_compiler()
    assert "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ


def test_an_error_of_the_command_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise InputError("numpy is not installed", hint="install it")

    monkeypatch.setattr(command.device, "need_packages", missing)
    assert command.main([]) == 2
    assert capsys.readouterr().err == "error: numpy is not installed; hint: install it\n"
