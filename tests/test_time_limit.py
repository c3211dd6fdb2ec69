"""A test that hangs ends, and says which it was and where it stood, in every kind of session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.time_limit import watchdog

ROOT = Path(__file__).resolve().parents[1]
# Its time is over once all has happened that is asked about.
HANGS = """
import threading
from types import SimpleNamespace

def test_before():
    print("of another test")

def test_that_hangs(request):
    print("the last words")
    request.config.hook.pytest_timeout_set_timer(item=request.node, settings=SimpleNamespace(timeout=0.1))
    wait_for_ever()

def wait_for_ever():
    threading.Event().wait()

def test_after():
    pass
"""


@pytest.mark.parametrize("workers", ["0", "1"], ids=["one process", "a worker"])
def test_a_hang_names_itself(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(HANGS)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.time_limit", "-p", "no:cacheprovider", "-n", workers, tmp_path],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert ended.returncode == 1
    _, _, told = ended.stderr.partition("the last words\n")
    assert "test_it.py::test_that_hangs has not ended within 0.1 s" in told
    assert "in wait_for_ever" in told
    assert "of another test" not in ended.stderr
    if workers == "1":
        # A new worker runs the rest.
        assert "crashed while running 'test_it.py::test_that_hangs'" in ended.stdout
        assert "1 failed, 2 passed" in ended.stdout


def test_each_test_has_a_limit(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("pytest_timeout")
    assert watchdog.watched == (request.node, float(request.config.getini("timeout")))
