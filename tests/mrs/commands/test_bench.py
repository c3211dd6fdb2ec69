"""`mrs-trt bench`: what it measures, prints, writes and compares."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mrs.benchmarking import fresh, results
from mrs.benchmarking.results import Repeat, Results, Start
from mrs.runtime.session import Restorer

pytestmark = pytest.mark.usefixtures("one_thread")
# No processes of its own, which take seconds, and as few rounds as there may be.
LITTLE = ("--seconds", 0.01, "--processes", 0, "--threads", 1)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Processes that were never started: milliseconds of a restore in each of the next ones, which tests write."""
    milliseconds = [100.0]

    def measure(plan: Path, running: Any, size: Any, count: int, *rest: Any) -> tuple[Start, tuple[Repeat, ...]]:
        start = Start(first_result_ms=(1.0,), load_ms=(1.0,), first_restore_ms=(1.0,), peak_memory_bytes=(1 << 20,))
        spent = [milliseconds[0] * (1 + 0.001 * number) for number in range(count)]
        return start, tuple(
            Repeat(restore_ms=(each,), network_ms=(0.9 * each,), yardstick_ms=(20.0,)) for each in spent
        )

    monkeypatch.setattr(fresh, "measure", measure)
    return milliseconds


def test_a_restore_and_its_network_are_timed(run, plan) -> None:
    ended = run("bench", plan, "--size", "24x40", "--batch", 2, *LITTLE)
    assert ended.code == 0, ended.err
    assert "at 24x40, batch 2" in ended.out
    rows = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if line}
    for name in ("restore", "network"):
        size, batch, median, slow, last = rows[name][:5]
        assert (size, batch) == ("24x40", "2")
        low, high = map(float, next(cell for cell in rows[name] if "-" in cell).split("-"))
        assert 0 < low <= float(median) <= high <= float(last)
        assert float(median) <= float(slow) <= float(last)
    # Equal but for rounding, which the number of threads may change.
    assert re.search(r"restore .* %  +(equal|1\d\d\.\d dB), \d+.\d needed", ended.out)
    assert "restores of 24x40, batch 2" in ended.err
    assert "note: cold start, peak memory and what a comparison needs are left out" in ended.out


def test_everything_in_one_file(run, plan, tmp_path) -> None:
    path = tmp_path / "r.json"
    ended = run(
        "bench", plan, "--sizes", "16x16,24x16", "--batches", "2,1", "--workers", "1,2", "--json", path, "-q", *LITTLE
    )
    assert (ended.code, ended.err) == (0, "")
    found = results.read(path)
    by_group: dict[int, list[tuple[object, ...]]] = {}
    for case in found.cases:
        by_group.setdefault(case.group, []).append((case.work, case.batch, case.height, case.width))
    # The plan's own batch, which was asked for too, once.
    assert by_group == {
        group: [("restore", *size), ("network", *size)]
        for group, size in enumerate([(1, 32, 32), (1, 16, 16), (1, 24, 16), (2, 32, 32)])
    }
    assert [each.workers for each in found.throughput] == [1, 2]
    assert {span.name for span in found.timeline} >= {"start", "network", "step", "finish"}
    assert found.start is None
    assert found.command == (
        f"mrs-trt bench {plan} --sizes 16x16,24x16 --batches 2,1 --workers 1,2 --processes 0 --threads 1 --seconds 0.01"
    )
    assert found.plan.name == plan.name


@pytest.mark.slow(5)
def test_new_processes(run, plan, tmp_path) -> None:
    path = tmp_path / "r.json"
    ended = run("bench", plan, "--processes", 1, "--seconds", 0.01, "--threads", 1, "--json", path)
    assert ended.code == 0, ended.err
    assert re.search(r"first result after \d+\.\d\d s .*; 1 processes", ended.out)
    assert re.search(r"memory +\d+ MiB", ended.out)
    assert len(results.read(path).repeats) == 1


def test_a_trace(run, plan, tmp_path) -> None:
    path = tmp_path / "trace.json"
    ended = run("bench", plan, "--trace", path, "--workers", 2, *LITTLE)
    assert ended.code == 0, ended.err
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    # Restores of a millisecond need not overlap.
    assert {"callers", "worker 1"} <= names <= {"callers", "worker 1", "worker 2"}
    assert len({event["tid"] for event in events if event["name"] == "restore"}) == 3


@pytest.mark.parametrize(("now", "code", "says"), [(100.0, 0, "equal"), (115.0, 3, "slower"), (85.0, 0, "faster")])
def test_a_comparison_and_its_exit_code(run, plan, tmp_path, processes, now: float, code: int, says: str) -> None:
    old = tmp_path / "old.json"
    arguments = ("bench", plan, "--seconds", 0.01, "--threads", 1)
    assert run(*arguments, "--json", old).code == 0
    processes[0] = now
    ended = run(*arguments, "--compare", old)
    assert ended.code == code, ended.err
    assert f"restore   {says}" in ended.out
    assert f"network   {says}" in ended.out


def changed(path: Path, **changes: Any) -> Results:
    found = results.read(path)
    return dataclasses.replace(
        found, **{name: dataclasses.replace(getattr(found, name), **change) for name, change in changes.items()}
    )


def test_what_cannot_be_compared_is_refused_before_anything_is_timed(run, refuse, plan, tmp_path, processes) -> None:
    old = tmp_path / "old.json"
    arguments = ("bench", plan, "--seconds", 0.01, "--threads", 1)
    assert run(*arguments, "--json", old).code == 0
    refuse(*arguments, "--compare", old, "--size", "16x16", says="is of another size: 32x32, here 16x16")
    refuse(*arguments, "--compare", old, "--processes", 2, says="this run has 2 processes of its own")
    refuse(*arguments, "--compare", tmp_path / "none.json", says="cannot read")
    changed(old, machine={"processor": "another"}).save(old)
    refuse(*arguments, "--compare", old, says="is of another processor: another")


def test_files_that_cannot_be_written_are_refused_first(refuse, plan, tmp_path) -> None:
    refuse("bench", plan, *LITTLE, "--json", tmp_path / "no" / "r.json", says="its folder does not exist")
    refuse("bench", plan, *LITTLE, "--trace", tmp_path, says="it is a folder")
    refuse("bench", plan, *LITTLE, "--json", plan, says="is the plan")
    both = tmp_path / "a.json"
    refuse("bench", plan, *LITTLE, "--json", both, "--trace", both, says="name one file")


def test_flags_of_engines_and_the_cache(run, plan, monkeypatch) -> None:
    import mrs.runtime.session as session

    asked = []
    real = session.load
    monkeypatch.setattr(session, "load", lambda path, **options: asked.append(options) or real(path, **options))
    for flags in ([], ["--no-engine", "--no-cache"]):
        assert run("bench", plan, *LITTLE, *flags).code == 0
    assert [(each["engine"], each["cache"]) for each in asked] == [(True, True), (False, False)]


def test_the_plan_says_the_size(run, plan) -> None:
    from mrs.runtime.plan import read_plan

    count, height, width = read_plan(plan).facts.shape
    ended = run("bench", plan, *LITTLE)
    assert f"at {height}x{width}, batch {count}" in ended.out


def test_an_engine_that_no_build_measured_has_no_parity(run, plan) -> None:
    ended = run("bench", plan, *LITTLE, "--backend", "openvino", "--precision", "fp32")
    assert ended.code == 0, ended.err
    assert "note: no build measured how near openvino fp32 is to float32" in ended.out


def test_what_is_not_measured_of_a_gpu_is_said(run, plan, processes, monkeypatch) -> None:
    missing = "note: peak memory is the host's, for the GPU's is not measured; there is no yardstick for a GPU"
    assert missing not in run("bench", plan, *LITTLE, "--processes", 2).out
    # Its device is all that is another: of a GPU itself the tests of runtime/cuda have a double.
    monkeypatch.setattr(Restorer, "device", property(lambda self: "cuda"))
    ended = run("bench", plan, *LITTLE, "--processes", 2)
    assert ended.code == 0, ended.err
    assert missing in ended.out
    assert missing not in run("bench", plan, *LITTLE).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "0"], "--seconds 0 is not a positive number"),
        (["--seconds", "nan"], "--seconds nan is not a positive number"),
        (["--seconds", "inf"], "--seconds inf is not a positive number"),
        (["--size", "24"], "'24' is not HEIGHTxWIDTH"),
        (["--sizes", "24x24,9"], "'9' is not HEIGHTxWIDTH"),
        (["--sizes", "24x24,24x24"], "--sizes has the same twice"),
        (["--batches", "1,x"], "'1,x' is not a list of numbers"),
        (["--batches", "0"], "--batches and --workers are numbers from 1 on"),
        (["--workers", "1,0"], "--batches and --workers are numbers from 1 on"),
        (["--workers", "2,2"], "--workers has the same twice"),
        (["--backend", "none"], "backend 'none' is unknown"),
        (["--size", "99999x99999"], "size 99999x99999 at batch 1 needs"),
        (["--batch", "999999999"], "at batch 999999999 needs"),
        (["--precision", "int8"], "runs no 'int8' here"),
    ],
)
def test_a_wrong_argument_is_one_line(run, plan, arguments: list[str], said: str) -> None:
    ended = run("bench", plan, *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert "; hint: " in ended.err
    assert len(ended.err.splitlines()) == 1


def test_quality_beside_speed(run, refuse, plan, photo, tmp_path) -> None:
    path, pictures = tmp_path / "r.json", tmp_path / "clean"
    pictures.mkdir()
    Image.fromarray(photo(40, 48)).save(pictures / "a.png")
    asked = ("--data", pictures, "--degradation", "noise", "--middle", 32, "--solvers", "ode-2:2")
    ended = run("bench", plan, "--json", path, *asked, *LITTLE)
    assert ended.code == 0, ended.err
    found = results.read(path)
    assert [each.by for each in found.quality] == ["ours", "degraded", "solver"]
    whole = sorted(found.cases[0].milliseconds)
    assert found.quality[0].milliseconds == whole[len(whole) // 2]
    assert found.pictures
    assert re.search(r"^this plan +2 ", ended.out, re.MULTILINE)
    assert f"--data {pictures} --degradation noise --middle 32 --solvers ode-2:2" in found.command
    refuse("bench", plan, *LITTLE, "--data", tmp_path / "none", says="none")
    refuse("bench", plan, *LITTLE, "--severity", 0.5, says="--severity needs pictures")


@pytest.mark.slow(15)
def test_rivals_in_the_same_rounds(run, refuse, plan, golden, tmp_path) -> None:
    path = tmp_path / "r.json"
    ended = run(
        "bench", plan, "--against", "eager,onnxruntime", "--checkpoint", golden.weights, "--json", path, *LITTLE
    )
    assert ended.code == 0, ended.err
    found = results.read(path)
    assert [(case.work, case.by, case.group) for case in found.cases] == [
        ("restore", "ours", 0), ("network", "ours", 0), ("restore", "eager", 0), ("network", "onnxruntime", 0),
    ]  # fmt: skip
    eager, bare = found.cases[2:]
    assert eager.parity is not None
    assert eager.parity.passes
    assert bare.parity is None
    assert len({len(case.milliseconds) for case in found.cases}) == 1
    assert re.search(r"^eager restore .*x .* needed$", ended.out, re.MULTILINE)
    assert f"--against eager,onnxruntime --processes 0 --threads 1 --checkpoint {golden.weights}" in found.command
    refuse("bench", plan, *LITTLE, "--against", "eager,nobody", says="'nobody' is none of eager,")
    refuse("bench", plan, *LITTLE, "--against", "eager", says="give --checkpoint FILE")
