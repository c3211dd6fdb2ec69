"""The floor: as many evaluations as a restore has, in a loop of the library's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.benchmarking.rivals import bare
from mrs.runtime.backends import mixed
from mrs.runtime.plan import read_plan


def test_both_libraries_evaluate_the_plan_s_network(plan) -> None:
    from mrs.runtime import backends
    from mrs.runtime.backends.settings import CompileSettings

    read, shape = read_plan(plan), (2, 6, 24, 28)
    network = backends.get("onnxruntime").compile(read.graph, read.modulation, shape, "fp32", CompileSettings(1))
    for step, inputs in enumerate(bare._inputs(read, shape)):
        network.packed[...] = inputs["packed"]
        network.evaluate(step)
        for compiled in bare._COMPILERS.values():
            found = next(iter(_values(compiled(read.graph, shape, "fp32", 1)(inputs))))
            np.testing.assert_allclose(found, network.output, atol=1e-4 * np.abs(network.output).max())


def _values(result: Any) -> list[Any]:
    return list(result.values()) if hasattr(result, "values") else list(result)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_library_is_a_rival(opened, name: str) -> None:
    with opened(name, checkpoint=None) as (rival,):
        assert (rival.name, rival.backend, rival.precision, rival.evaluations) == (name, name, "fp32", 2)
        assert rival.label.startswith(f"{bare.LIBRARIES[name]} 2" if name == "openvino" else "ONNX Runtime 1.")
        assert rival.label.endswith("the network alone, fp32")
        assert rival.run is None
        assert rival.evaluate() is None


def test_every_step_is_evaluated_once_at_its_precision(plan, monkeypatch) -> None:
    read, calls = read_plan(plan), []

    def compiled(graph: bytes, shape: Any, precision: str, threads: int) -> Any:
        assert (graph, threads) == (read.graph, 3)
        return lambda inputs: calls.append((precision, shape, inputs))

    monkeypatch.setitem(bare._COMPILERS, "openvino", compiled)
    monkeypatch.setattr(mixed, "runs", lambda engine, precision: True)
    mixture = replace(read, manifest={**read.manifest, "precision": "bf16-after-1"})
    rival = bare.bare("openvino", mixture, (1, 21, 27), 3)
    calls.clear()
    rival.evaluate()
    assert [(precision, shape) for precision, shape, _ in calls] == [("fp32", (1, 6, 24, 28)), ("bf16", (1, 6, 24, 28))]
    for (_, shape, inputs), row in zip(calls, read.modulation, strict=True):
        assert inputs["packed"].shape == shape
        np.testing.assert_array_equal(inputs["modulation"][0, :, 0, 0], row)


def test_a_precision_that_a_library_lacks_is_said(plan) -> None:
    read = read_plan(plan)
    rival = bare.bare("onnxruntime", replace(read, manifest={**read.manifest, "precision": "fp16"}), (1, 8, 8), 1)
    assert rival.precision == "fp32"
    assert rival.label.endswith("fp32, which has no fp16 here")


def test_a_library_that_fails_is_one_line(opened, monkeypatch) -> None:
    def fail(*arguments: object) -> Any:
        raise ValueError("no such\nthing")

    monkeypatch.setitem(bare._COMPILERS, "openvino", fail)
    notes: list[str] = []
    with opened("openvino", "onnxruntime", note=notes.append) as found:
        assert [rival.name for rival in found] == ["onnxruntime"]
    assert notes == ["rival openvino left out: OpenVINO failed: ValueError: no such"]
