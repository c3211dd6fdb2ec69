"""No speed without the gate: a build's rule, for everyone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import mrs
from mrs.benchmarking.rivals import Rival, float32_reference, judge
from mrs.benchmarking.rivals.gate import ENOUGH, MARGIN, bar_of, exact_engine
from mrs.runtime import backends
from mrs.runtime.errors import BackendError
from mrs.runtime.plan import read_plan

RIVAL = Rival(
    name="a", label="b", backend="c", precision="fp32", evaluations=2, setup_seconds=0.0, bar_db=40.0, run=np.copy
)


def with_discretisation(plan, found: object):
    return replace(plan, manifest={**plan.manifest, "selection": {"discretisation_db": found}})


def test_the_bar_is_a_build_s(plan) -> None:
    read = read_plan(plan)
    assert bar_of(with_discretisation(read, 20.0)) == 20.0 + MARGIN
    for found in (None, 44.0, math.nan, True, "20"):
        assert bar_of(with_discretisation(read, found)) == ENOUGH
    assert bar_of(replace(read, manifest={})) == ENOUGH


def test_a_result_is_judged_by_its_distance() -> None:
    reference = np.full((1, 8, 8, 3), 100, np.uint8)
    equal, near, far = judge(RIVAL, reference, reference), judge(RIVAL, reference + 2, reference), judge(
        RIVAL, reference + 4, reference
    )  # fmt: skip
    assert (equal.psnr_db, equal.passes, equal.bar_db) == (None, True, 40.0)
    assert near.psnr_db == pytest.approx(20 * math.log10(255 / 2))
    assert (near.passes, far.passes) == (True, False)
    assert "float32, same solver and noise" in near.reference


def test_the_reference_is_another_engine_s_restore_in_float32(plan, pictures, caplog) -> None:
    read = read_plan(plan)
    assert read.facts.backend == "onnxruntime"
    assert exact_engine(read).name == "openvino"
    with mrs.load(plan, threads=1) as restorer:
        expected = restorer.restore(pictures).astype(int)
    caplog.clear()
    # What the build said of the plan was said when the plan was loaded.
    warned = replace(read, manifest={**read.manifest, "verdict": {"warnings": ["it restores nothing"]}})
    found = float32_reference(warned, pictures, 1)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1
    assert caplog.text == ""


def test_the_reference_of_a_network_with_attention_is_not_written_down(plan, monkeypatch) -> None:
    """ONNX Runtime would take memory with the square of the pixels."""
    read = read_plan(plan)
    on_openvino = {**read.manifest, "backend": "openvino"}
    assert exact_engine(replace(read, manifest=on_openvino)).name == "onnxruntime"
    attends = {**on_openvino, "network": {**read.manifest["network"], "bytes_per_pair": 8}}
    assert exact_engine(replace(read, manifest=attends)).name == "openvino"
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setattr(type(backends.get(name)), "missing", lambda self: "gone")
    with pytest.raises(BackendError, match="openvino and onnxruntime are not there"):
        exact_engine(read)
