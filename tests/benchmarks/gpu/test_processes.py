"""Processes end at their limits with all that they started, and one that does not end or crashes stops no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.gpu.processes import NOT_STARTED, ROOT, WRONG, Job, Process, run, told
from tests.benchmarks.gpu.virtual import Time, starter

HANGS = float("inf")
PATIENCE = 60.0


def until(holds: Callable[[], bool]) -> None:
    """Wait, however busy the machine is, but not for ever."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(number: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def python(text: str, tmp_path: Path, shown: bool = False) -> tuple[Process, Callable[[], str]]:
    """A process of Python, and what it wrote to its file `said` once there is a line."""
    said = tmp_path / "said"
    head = f"import os, subprocess, sys, time\ndef say(word):\n    open({str(said)!r}, 'a').write(f'{{word}}\\n')\n"

    def read() -> str:
        until(lambda: said.exists() and said.read_text().endswith("\n"))
        return said.read_text()

    return Process([sys.executable, "-c", head + text], {}, shown), read


def test_one_at_a_time_jobs_share_what_is_left() -> None:
    clock = Time()
    start, started = starter(clock, {"a": 10, "b": HANGS, "c": HANGS})
    ended = list(run([Job(name, "") for name in "abc"], 100, 1, start, clock))
    assert [name for _, name in started] == ["a", "b", "c"]
    # The first leaves what it does not need to the others.
    assert [each.seconds for each in ended] == pytest.approx([10, 45, 45], abs=0.2)
    assert [(each.code, each.trouble) for each in ended] == [
        (0, ""), (None, "stopped after 45 s, its limit"), (None, "stopped after 45 s, its limit")
    ]  # fmt: skip


def test_what_crashes_is_named_and_the_next_goes_on() -> None:
    clock = Time()
    start, started = starter(clock, {"a": (1, -signal.SIGSEGV, "last words"), "b": (1, 1), "c": (1, WRONG), "d": 1})
    ended = list(run([Job(name, "") for name in "abcd"], 100, 1, start, clock))
    assert [each.trouble for each in ended] == ["ended by SIGSEGV", "ended with code 1", "wrong results", ""]
    assert ended[0].output == "last words"
    assert len(started) == 4


def test_several_at_a_time_begin_as_others_end() -> None:
    clock = Time()
    start, started = starter(clock, {"a": 5, "b": HANGS, "c": 5, "d": 5})
    ended = list(run([Job(name, "", longest=30) for name in "abcd"], 100, 2, start, clock))
    assert started == [(0, "a"), (0, "b"), (pytest.approx(5, abs=0.1), "c"), (pytest.approx(10, abs=0.2), "d")]
    assert [each.job.name for each in ended] == ["a", "c", "d", "b"]
    assert ended[-1].trouble == "stopped after 30 s, its limit"


def test_what_has_no_time_left_is_not_started() -> None:
    clock = Time()
    start, started = starter(clock, {"a": HANGS, "b": 1})
    ended = list(run([Job(name, "", longest=100) for name in "ab"], 20, 1, start, clock))
    assert [each.trouble for each in ended] == ["stopped after 20 s, its limit", NOT_STARTED]
    assert [name for _, name in started] == ["a"]


def test_an_interruption_ends_what_runs() -> None:
    clock = Time()
    running = []
    start, _ = starter(clock, {"a": 1, "b": HANGS})

    def remembering(job: Job, limit: float) -> object:
        running.append(start(job, limit))
        return running[-1]

    jobs = run([Job("a", ""), Job("b", "")], 100, 2, remembering, clock)
    next(jobs)
    jobs.close()
    assert [each.stopped is not None for each in running] == [False, True]


def test_a_process_says_how_it_ended_and_what_it_printed(tmp_path: Path) -> None:
    process, _ = python("print('out', flush=True); sys.stderr.write('err'); sys.exit(7)", tmp_path)
    until(lambda: process.poll() is not None)
    assert process.poll() == 7
    assert process.output() == "out\nerr"


CHILD = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\nsay(child.pid)\n"


@pytest.mark.parametrize("ends", [True, False], ids=["ends itself", "is stopped"])
def test_what_a_process_started_ends_with_it(tmp_path: Path, ends: bool) -> None:
    process, said = python(CHILD + ("" if ends else "time.sleep(600)"), tmp_path)
    child = int(said())
    if not ends:
        assert process.poll() is None
        process.stop()
    # Its output is a file, which the child cannot keep open for the reader.
    until(lambda: process.poll() is not None)
    until(lambda: not lives(child))


def test_a_process_that_ignores_being_asked_is_ended(tmp_path: Path) -> None:
    process, said = python(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); say('ready'); time.sleep(600)", tmp_path
    )
    said()
    process.stop()
    assert process.poll() == -signal.SIGKILL


def test_a_worker_that_is_stopped_says_where_it_was(tmp_path: Path) -> None:
    stuck = "def stuck():\n    say('ready'); time.sleep(600)\nstuck()"
    process, said = python(f"from benchmarks.gpu import worker\nworker.tell_where()\n{stuck}", tmp_path)
    said()
    process.stop()
    assert process.poll() == -signal.SIGTERM
    assert "in stuck" in process.output()


def test_a_worker_does_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    worker = (
        "import time; from benchmarks.gpu.worker import end_with_parent\n"
        "end_with_parent(); print('ready', flush=True); time.sleep(600)"
    )
    text = (
        "import sys, time; from benchmarks.gpu.processes import Process\n"
        f"process = Process([sys.executable, '-c', {worker!r}], {{}}, shown=True)\n"
        "print(process._process.pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        parent.wait(PATIENCE)
        until(lambda: not lives(number))


def test_codes_are_told_in_words() -> None:
    assert [told(code) for code in (0, 1, -9, WRONG)] == ["", "ended with code 1", "ended by SIGKILL", "wrong results"]
