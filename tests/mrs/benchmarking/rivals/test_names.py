"""Which rivals there are, and what is refused before anything is compiled."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mrs.benchmarking.rivals import IN_TORCH, NAMES
from mrs.runtime.backends import BACKENDS
from mrs.runtime.errors import InputError, PlanError


def test_every_backend_has_a_name() -> None:
    assert [name for name in NAMES if name.startswith("backend:")] == [f"backend:{name}" for name in BACKENDS]
    assert len(set(NAMES)) == len(NAMES)


def test_names_cost_nothing() -> None:
    """A command lists them in its help."""
    code = "import sys, mrs.benchmarking.rivals as r; r.NAMES; print(*{'torch', 'numpy', 'msgspec'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == []


def test_a_name_that_is_unknown(opened) -> None:
    with pytest.raises(InputError, match=r"rival 'keras' is unknown \(use some of eager, compile, published"), opened(
        "eager", "keras"
    ):  # fmt: skip
        pass


@pytest.mark.parametrize("name", IN_TORCH)
def test_a_rival_in_torch_needs_the_checkpoint(opened, name: str) -> None:
    with pytest.raises(InputError, match=rf"rival {name} needs the checkpoint .* \(give --checkpoint FILE\)"), opened(
        "openvino", name, checkpoint=None
    ):  # fmt: skip
        pass


def test_a_file_that_is_no_plan(opened, golden) -> None:
    with pytest.raises(PlanError, match="no plan"), opened("openvino", plan_path=golden.weights):
        pass


def test_without_torch_the_others_go_on(opened, monkeypatch) -> None:
    from mrs.benchmarking.rivals import opening

    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "torch" else object())
    notes: list[str] = []
    with opened("eager", "published", "onnxruntime", note=notes.append) as found:
        assert [rival.name for rival in found] == ["onnxruntime"]
    assert notes == ["rivals eager, compile, published left out: torch not installed"]
