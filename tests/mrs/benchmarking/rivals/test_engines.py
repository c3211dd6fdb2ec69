"""Whole restores on every other backend."""

from __future__ import annotations

import numpy as np
import pytest

from mrs.benchmarking.rivals import float32_reference, judge
from mrs.runtime import backends
from mrs.runtime.chain import CpuChain
from mrs.runtime.errors import BackendError
from mrs.runtime.plan import read_plan
from mrs.runtime.session import Restorer

pytestmark = pytest.mark.slow(5)


def test_all_others_that_run_here(opened, pictures, plan) -> None:
    others = [each.name for each in backends.available() if each.name != "onnxruntime"]
    with opened("backends", "backend:openvino", checkpoint=None) as found:
        assert [rival.name for rival in found] == [f"backend:{name}" for name in others]
        by_name = {rival.backend: rival for rival in found}
        rival = by_name["openvino"]
        assert rival.label.startswith("this runtime on openvino 2")
        result = rival.run(pictures)
        assert judge(rival, result, float32_reference(read_plan(plan), pictures, 1)).passes
        # What it gave stays as it is.
        kept = result.copy()
        rival.run(255 - pictures)
        np.testing.assert_array_equal(result, kept)


def test_the_plan_s_own_may_be_asked_for(opened) -> None:
    with opened("backend:onnxruntime", checkpoint=None) as (rival,):
        assert (rival.backend, rival.precision, rival.evaluations) == ("onnxruntime", "fp32", 2)
        assert rival.setup_seconds > 0


def test_one_that_is_not_there_is_noted(opened, monkeypatch) -> None:
    monkeypatch.setattr(type(backends.get("tensorrt")), "missing", lambda self: "tensorrt is not installed")
    notes: list[str] = []
    with opened("backend:tensorrt", "backend:openvino", note=notes.append) as found:
        assert [rival.name for rival in found] == ["backend:openvino"]
    assert notes == ["rival backend:tensorrt left out: tensorrt is not installed"]


def test_all_are_closed_whatever_happens(opened, monkeypatch) -> None:
    closed, real = [], Restorer.close
    monkeypatch.setattr(Restorer, "close", lambda self: closed.append(self.backend) or real(self))
    with opened("backend:openvino", "backend:onnxruntime"):
        assert closed == []
    assert closed == ["onnxruntime", "openvino"]
    closed.clear()
    # The second is not there yet.
    monkeypatch.setattr(type(backends.get("onnxruntime")), "compile", interrupted)
    with pytest.raises(KeyboardInterrupt), opened("backend:openvino", "backend:onnxruntime"):
        pass
    assert closed == ["onnxruntime", "openvino"]


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_what_fails_later_is_one_line(opened, pictures, monkeypatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("12 GiB")

    with opened("backend:openvino") as (rival,):
        monkeypatch.setattr(CpuChain, "restore_into", fail)
        with pytest.raises(BackendError, match=r"^openvino failed: MemoryError: 12 GiB$"):
            rival.run(pictures)
