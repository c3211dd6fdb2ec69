"""A test that hangs ends, and says which it was and where it stood, in every kind of session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.time_limit import watchdog

pytestmark = pytest.mark.slow(4)

ROOT = Path(__file__).resolve().parents[1]
# Its time is over once all has happened that is asked about.
HANGS = """
import subprocess, sys, threading
from types import SimpleNamespace

def test_before():
    print("of another test")

def test_that_hangs(request):
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    print(f"started {started.pid}")
    print("the last words")
    request.config.hook.pytest_timeout_set_timer(item=request.node, settings=SimpleNamespace(timeout=0.1))
    wait_for_ever()

def wait_for_ever():
    threading.Event().wait()

def test_after():
    pass
"""

LEAVES = """
import subprocess, threading

def test_that_leaves_something():
    threading.Thread(target=threading.Event().wait, args=[3], name="a thread").start()
    threading.Thread(target=threading.Event().wait, daemon=True, name="harmless").start()
    subprocess.Popen(["cat"], stdin=subprocess.PIPE)
"""


def session(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *more, folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.parametrize("workers", ["0", "1"], ids=["one process", "a worker"])
def test_a_hang_names_itself(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(HANGS)
    ended = session(tmp_path, "-p", "tests.time_limit", "-n", workers)
    assert ended.returncode == 1
    _, _, told = ended.stderr.partition("the last words\n")
    assert "test_it.py::test_that_hangs has not ended within 0.1 s" in told
    assert "in wait_for_ever" in told
    assert "of another test" not in ended.stderr
    # What it started has ended too; who has not been asked how is a zombie.
    process = Path("/proc", ended.stderr.partition("started ")[2].split()[0], "cmdline")
    assert not process.exists() or not process.read_bytes()
    if workers == "1":
        # A new worker runs the rest.
        assert "crashed while running 'test_it.py::test_that_hangs'" in ended.stdout
        assert "1 failed, 2 passed" in ended.stdout


def test_what_is_left_behind_fails_the_session(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests import leftovers\nfrom tests.leftovers import nothing_is_left_behind\nleftovers.PATIENCE = 0.1\n"
    )
    (tmp_path / "test_it.py").write_text(LEAVES)
    ended = session(tmp_path)
    assert "1 passed, 1 error" in ended.stdout
    assert "tests of this session left behind: a thread, cat\n" in ended.stdout


def test_each_test_has_a_limit(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("pytest_timeout")
    assert watchdog.watched == (request.node, float(request.config.getini("timeout")))
