"""piq's metrics without piq's torchvision, and what is said where there is no piq."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from mrs.benchmarking.quality import perceptual as module
from mrs.benchmarking.quality.perceptual import NAMES, perceptual
from tests.mrs.benchmarking.quality.examples import pair

needs_piq = pytest.mark.skipif(find_spec("piq") is None, reason="piq is not installed")


@needs_piq
def test_values_are_those_of_the_whole_library() -> None:
    score = perceptual()
    assert not isinstance(score, str)
    noisy, clean = pair()
    # By piq 0.8.0 as a whole, with torchvision 0.28.0.
    whole = {"haarpsi": 0.8832500576972961, "fsim": 0.8301076889038086, "gmsd": 0.03549934923648834}
    assert score(noisy, clean) == pytest.approx(whole, rel=1e-4)
    assert score(clean, clean) == pytest.approx({"haarpsi": 1, "fsim": 1, "gmsd": 0}, abs=1e-4)


@needs_piq
def test_the_package_as_a_whole_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever imports it fails.
    monkeypatch.setitem(sys.modules, "torchvision", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "piq"]:
        monkeypatch.delitem(sys.modules, name)
    assert callable(perceptual())
    assert "piq" not in sys.modules


@pytest.mark.parametrize("missing", ["torch", "piq"])
def test_a_library_that_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else object())
    said = perceptual()
    assert isinstance(said, str)
    assert f"{missing} is not installed" in said
    assert all(name in said for name in NAMES)


def test_a_library_of_another_layout_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks() -> list[object]:
        raise ImportError("No module named 'piq.gmsd'")

    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(module, "_modules", lacks)
    assert "piq does not load here: No module named 'piq.gmsd'" in str(perceptual())
