"""A process that was forked restores, or says why it cannot; it waits for nothing that the fork left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mrs.runtime.system.forks import Library, Origin

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"), pytest.mark.slow(4)]

# Each scene runs in a child of a process that has restored two sizes; its last line tells how it ended.
PROGRAM = """
import os, sys, threading, time, warnings
import numpy as np
import mrs
from mrs.runtime.errors import MrsError

warnings.simplefilter("ignore", DeprecationWarning)  # what newer versions of Python say of a fork beside threads
path, backend = sys.argv[1:]
pictures = [np.full((16, 24, 3), 100, np.uint8), np.full((8, 12, 3), 50, np.uint8)]
restorer = mrs.load(path, backend=backend, threads=2)
expected = [restorer.restore(picture, seed=3) for picture in pictures]


def restored(made=None, number=0):
    return (made or restorer).restore(pictures[number], seed=3).tobytes() == expected[number].tobytes()


def tell(scene, child, ends=False):
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        try:
            answer = child()
        except MrsError as error:
            answer = f"{type(error).__name__}: {error}"
        print(f"{scene}: {answer}", flush=True)
        if ends:
            # As a script ends, freeing what it has.
            sys.exit(0)
        os._exit(0)
    end = time.monotonic() + 60
    while not (found := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(process, 9)
            os.waitpid(process, 0)
            print(f"{scene}: hangs", flush=True)
            return
        time.sleep(0.01)
    if found[1]:
        print(f"{scene}: ended with {os.waitstatus_to_exitcode(found[1])}", flush=True)


def closed():
    restorer.close()
    return restored(mrs.load(path, backend=backend, threads=2))


def new_size():
    return restorer.restore(np.zeros((20, 20, 3), np.uint8)).shape


tell("idle", restored)
tell("new size", new_size)
tell("closed in the child", closed)
# The interpreter of a child of ONNX Runtime's does not end, with or without us: its own destructors wait.
tell("ends", restored, ends=backend == "openvino")

inside, leave = threading.Event(), threading.Event()


def away():
    with restorer.lend(pictures[0], seed=3):
        inside.set()
        leave.wait(60)


thread = threading.Thread(target=away)
thread.start()
inside.wait(60)
tell("away", restored)
tell("away, the other size", lambda: restored(number=1))
leave.set()
thread.join()
with restorer.lend(pictures[0], seed=3):
    # This thread is there in the child, and so is its block.
    tell("lent", restored)

restorer.close()
tell("closed before", lambda: restored(mrs.load(path, backend=backend, threads=2)))
tell("of another backend", lambda: restored(mrs.load(path, backend="onnxruntime", threads=2)) is not None)
os._exit(0)
"""
REFUSED = (
    "BackendError: openvino can compile nothing here: this process was forked from one that let go of networks "
    "(begin processes with spawn, not fork, or use backend onnxruntime)"
)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_child_restores_or_says_why_not(tiny: Any, tmp_path: Path, backend: str) -> None:
    path = tmp_path / "a.mrsplan"
    tiny.plan(backend).save(path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), backend], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert found == {
        "idle": "True",
        "new size": "(20, 20, 3)",
        "closed in the child": "True",
        "ends": "True",
        "away": "True",
        "away, the other size": "True",
        "lent": "InputError: a restorer was called from within its own restore (wait until it has ended, or load the "
        "plan a second time)",
        "closed before": REFUSED if backend == "openvino" else "True",
        "of another backend": "True",
    }, done.stderr
    assert done.returncode == 0


def test_a_thread_of_this_process_is_here() -> None:
    assert Origin().here


def test_what_was_freed_before_a_fork_leaves_threads_that_nobody_has() -> None:
    class Thing:
        pass

    library, kept = Library(), [Thing() for _ in range(3)]
    for thing in kept:
        library.kept(thing, "kind")
    library.kept(other := Thing(), "other kind")
    del kept[0], thing
    # The threads of the first serve this one.
    kept.append(library.kept(Thing(), "kind"))
    library.forked()
    assert not library.lost
    # What a child makes and frees is of no concern to itself.
    library.kept(Thing(), "other kind")
    assert not library.lost
    library.forked()
    assert library.lost
    assert other is not None
