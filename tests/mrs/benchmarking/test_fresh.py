"""Processes of their own tell of their first result, and what goes wrong in one is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrs.benchmarking import fresh
from mrs.benchmarking.settings import LEAST, Running
from mrs.benchmarking.yardstick import Waiting, Yardstick
from mrs.runtime.errors import BackendError

pytestmark = pytest.mark.slow(10)


def test_a_process_tells_of_its_start_and_repeats_the_measurement(plan: Path) -> None:
    start, repeats = fresh.measure(plan, Running(threads=1), (1, 16, 16), 1, 0.0, lambda line: None)
    assert start is not None
    for first, load, restore, peak in zip(
        start.first_result_ms, start.load_ms, start.first_restore_ms, start.peak_memory_bytes, strict=True
    ):
        # Starting Python takes time, too.
        assert 0 < load < first
        assert 0 < restore < first - load
        assert peak > 20 << 20
    (repeat,) = repeats
    assert repeat.waited is None or 0 <= repeat.waited <= 1
    assert len(repeat.restore_ms) == len(repeat.network_ms) == len(repeat.yardstick_ms) == LEAST


def test_none_are_started_where_none_are_wanted(plan: Path) -> None:
    assert fresh.measure(plan, Running(), (1, 16, 16), 0, 0.0, lambda line: None) == (None, ())


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"failed: .*no.mrsplan") as error:
        fresh.measure(tmp_path / "no.mrsplan", Running(), (1, 16, 16), 1, 0.0, lambda line: None)
    assert "\n" not in str(error.value)


def test_a_process_without_an_end_is_ended(plan: Path, monkeypatch) -> None:
    monkeypatch.setattr(fresh, "PATIENCE", 0.05)
    with pytest.raises(BackendError, match="had no end within"):
        fresh.measure(plan, Running(), (1, 16, 16), 1, 0.0, lambda line: None)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system does not tell")
def test_the_peak_is_the_processs_own() -> None:
    """A parent that is large does not count, as it would in getrusage."""
    held = bytearray(os.urandom(1 << 20) * 100)
    code = "from mrs.benchmarking.fresh import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5 << 20 < int(done.stdout) < len(held)


def test_the_yardstick_is_the_same_work_on_every_thread() -> None:
    yardstick = Yardstick(2)
    before = [each.copy() for each in yardstick._numbers]
    yardstick()
    yardstick()
    for each, numbers in zip(before, yardstick._numbers, strict=True):
        assert (each == numbers).all()


def test_waiting_is_what_linux_counts_of_the_threads(tmp_path: Path) -> None:
    for number, waited in (("1", 5), ("2", 7)):
        (tmp_path / number).mkdir()
        (tmp_path / number / "schedstat").write_text(f"100 {waited} 1\n")
    waiting = Waiting(2, tmp_path)
    assert waiting.share() == 0
    # An hour, of which no more than all can be said.
    (tmp_path / "1" / "schedstat").write_text(f"100 {3600 * 10**9} 1\n")
    (tmp_path / "2" / "schedstat").write_text("none\n")
    assert waiting.share() == 1
    assert Waiting(2, tmp_path / "missing").share() is None
