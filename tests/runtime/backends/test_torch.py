"""torch as a backend: every way to write the graph down, half precision, its buffers, its compiler, what it needs."""

from __future__ import annotations

import copy
import importlib.util
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from typing import Any

import numpy as np
import pytest

from mrs.export.graph_variant import NORMS, GraphVariant
from mrs.runtime import backends
from mrs.runtime.backends import Torch
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError
from tests.random_nafnet import nafnet_bytes
from tests.runtime.evaluations import SHAPE, TORCH, expected, output, outputs, refused

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(9)]


def installed(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    """All of torch's libraries are there, but for some."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else object())


@pytest.mark.parametrize("absent", ["torch", "triton", "onnx"])
@pytest.mark.parametrize("name", ["torch", "torch-eager"])
def test_torch_without_a_library(monkeypatch: pytest.MonkeyPatch, name: str, absent: str) -> None:
    installed(monkeypatch, absent)
    assert backends.get(name).missing() == f"{absent} is not installed: pip install 'mrs-trt[gpu]'"
    assert backends.get(name) not in backends.available()


def test_torch_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("mrs.runtime.system.libraries.version", absent)
    assert backends.get("torch").version() == ""


def test_torch_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert str(backends.get("torch").missing()).startswith("torch does not load: ")


@pytest.mark.parametrize(
    ("cuda", "available", "says"),
    [
        (None, False, "this torch is a build for CPUs: pip uninstall torch, then pip install 'mrs-trt[gpu]'"),
        ("12.8", False, "the GPU is not seen by a build for 12.8"),
        ("12.8", True, None),
    ],
    ids=["for CPUs", "no GPU", "a GPU"],
)
def test_torch_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, cuda: str | None, available: bool, says: str) -> None:
    import torch

    installed(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr("mrs.runtime.backends.torch.why_unseen", "the GPU is not seen by a build for {}".format)
    monkeypatch.setattr("mrs.runtime.backends.torch.missing_tool", lambda: None)
    assert backends.get("torch").missing() == says
    # A GPU alone does not suffice.
    monkeypatch.setattr("mrs.runtime.backends.torch.missing_tool", lambda: "there is no C compiler: install gcc")
    assert backends.get("torch").missing() == (says or "there is no C compiler: install gcc")


@pytest.mark.parametrize(
    ("capability", "precisions"),
    [
        ((7, 5), ("fp32", "fp16")),
        ((8, 0), ("fp32", "bf16", "fp16")),
        ((9, 0), ("fp32", "bf16", "fp16")),
        (None, ("fp32",)),
    ],
    ids=str,
)
def test_torch_tells_what_the_gpu_computes(
    tiny, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, precisions: tuple[str, ...]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    backend = backends.get("torch")
    assert backend.precisions() == precisions
    for precision in {"bf16", "fp16"} - set(precisions):
        with pytest.raises(BackendError, match=f"torch runs no {precision} on this GPU") as caught:
            backend.compile(tiny.graph, tiny.modulation, SHAPE, precision, CompileSettings(1))
        assert caught.value.hint == "use precision fp32"


# torch at half precision, and every way to write the graph down

# Largest error of each precision, relative to the largest output.
ERRORS = {"bf16": 1e-2, "fp16": 2e-3}
SHAPES = [(norm, gate) for norm in NORMS for gate in ("weights", "split")]


def scaled(tiny, scale: float) -> Any:
    """The tiny network with all residuals `scale` times as large: but for the norms' epsilon the same function."""
    net = copy.deepcopy(tiny.net)
    # What adds to the residuals; everything else passes them on.
    added = [net.intro.weight, net.intro.bias, *(down.bias for down in net.downs)]
    added += [each for name, each in net.named_parameters() if name.endswith(("beta", "gamma"))]
    for parameter in added:
        parameter.data.mul_(scale)
    net.ending.weight.data.div_(scale)
    return net


def by_torch(graph: bytes, tiny, packed: np.ndarray[Any, Any], precision: str, step: int = 0) -> Any:
    return output(TORCH.compile(graph, tiny.modulation, SHAPE, precision, CompileSettings(1)), packed, step)


@pytest.mark.parametrize(("norm", "gate"), SHAPES)
def test_torch_computes_every_shape_of_the_graph(tiny, packed, norm: str, gate: str) -> None:
    wanted = expected(tiny, packed, 1)
    found = by_torch(nafnet_bytes(tiny.net, GraphVariant(norm, gate)), tiny, packed, "fp32", 1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("norm", "gate"), SHAPES)
@pytest.mark.parametrize("precision", ERRORS)
def test_half_precision_is_near_float32(tiny, packed, precision: str, norm: str, gate: str) -> None:
    graph = nafnet_bytes(tiny.net, GraphVariant(norm, gate))
    for step in range(3):
        wanted = by_torch(graph, tiny, packed, "fp32", step)
        error = np.abs(by_torch(graph, tiny, packed, precision, step) - wanted).max() / np.abs(wanted).max()
        # Not float32 by another name either.
        assert 1e-5 < error < ERRORS[precision]


@pytest.mark.parametrize("precision", ERRORS)
def test_half_precision_is_that_of_buffers_and_convolutions(
    tiny, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    seen: dict[str, set[Any]] = {"conv2d": set(), "layer_norm": set()}

    def watch(name: str) -> None:
        function = getattr(torch.nn.functional, name)

        def watched(*given: Any) -> Any:
            made = function(*given)
            seen[name] |= {each.dtype for each in (*given, made) if isinstance(each, torch.Tensor)}
            return made

        monkeypatch.setattr(torch.nn.functional, name, watched)

    for name in seen:
        watch(name)
    network = TORCH.compile(
        nafnet_bytes(tiny.net, GraphVariant("layernorm", "split")),
        tiny.modulation,
        SHAPE,
        precision,
        CompileSettings(1),
    )
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == {"conv2d": {dtype}, "layer_norm": {torch.float32}}
    assert (network.packed.dtype, network.output.dtype) == (dtype, dtype)


@pytest.mark.parametrize(("norm", "gate"), SHAPES)
@pytest.mark.parametrize("precision", ["fp32", *ERRORS])
def test_the_norms_epsilon_is_that_of_float32(
    tiny, packed, precision: str, norm: str, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With residuals so small that the epsilon outweighs their variance."""
    from mrs.export.architectures.nafnet import graph as module

    net = scaled(tiny, 3e-3)
    wanted = by_torch(nafnet_bytes(net, GraphVariant(norm, gate)), tiny, packed, "fp32")
    found = by_torch(nafnet_bytes(net, GraphVariant(norm, gate)), tiny, packed, precision)
    largest = np.abs(wanted).max()
    assert np.abs(found - wanted).max() / largest < 2e-2
    # The published epsilon of other types would be far from that.
    monkeypatch.setattr(module, "NORM_EPS", 1e-3)
    other = by_torch(nafnet_bytes(net, GraphVariant(norm, gate)), tiny, packed, "fp32")
    assert np.abs(other - wanted).max() / largest > 0.1
    # Float32 is what the published network gives.
    assert np.abs(expected(replace(tiny, net=net), packed, 0) - wanted).max() / largest < 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_the_norms_statistics_are_float32(tiny, packed, norm: str) -> None:
    """The squares of these residuals overflow in float16."""
    net = scaled(tiny, 1000.0)
    graph = nafnet_bytes(net, GraphVariant(norm, "split"))
    wanted = expected(replace(tiny, net=net), packed, 0)
    found = by_torch(graph, tiny, packed, "fp16")
    assert np.isfinite(found).all()
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < 1e-2


# torch.compile, memory and addresses


def test_torch_is_compiled_whole_and_for_one_shape(tiny, packed, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: list[dict[str, Any]] = []
    ran: list[int] = []

    def compiled(function: Any, **options: Any) -> Any:
        asked.append(options)
        return lambda *given: (ran.append(len(given)), function(*given))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    arguments = (tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    plain = outputs(Torch("torch-eager", compiled=False, place="cpu").compile(*arguments), packed, 3)
    assert (asked, ran) == ([], [])
    network = Torch("torch", compiled=True, place="cpu").compile(*arguments)
    # No graphs of torch's own: they would copy inputs and outputs, and cannot be captured.
    assert asked == [{"fullgraph": True, "dynamic": False}]
    assert outputs(network, packed, 3) == plain
    assert len(ran) == 3


def test_torch_computes_exactly_whatever_its_process_has_set(tiny, packed, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    settings: Any = torch.backends
    network: Any = TORCH.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    plain = output(network, packed, 1)
    into, seen = network._into, []

    def watched(*given: Any) -> None:
        seen.append((settings.cudnn.conv.fp32_precision, settings.cuda.matmul.fp32_precision))
        into(*given)

    monkeypatch.setattr(network, "_into", watched)
    settings.fp32_precision = "tf32"
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_array_equal(output(network, packed, 1), plain)
    finally:
        settings.fp32_precision = "none"
    assert seen == [("ieee", "ieee")]


def test_torch_of_both_names() -> None:
    assert [backends.get(name).name for name in ("torch", "torch-eager")] == ["torch", "torch-eager"]
    assert [backends.get(name)._compiled for name in ("torch", "torch-eager")] == [True, False]  # type: ignore[attr-defined]


def test_torchs_buffers_have_their_channels_last(tiny) -> None:
    import torch

    for precision in ("fp32", *ERRORS):
        network = TORCH.compile(tiny.graph, tiny.modulation, SHAPE, precision, CompileSettings(1))
        for buffer in (network.packed, network.output):
            assert buffer.is_contiguous(memory_format=torch.channels_last)
            assert not buffer.any()


def test_rows_of_torch_stay_where_a_graph_has_captured_them(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = TORCH.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    seen: list[int] = []
    monkeypatch.setattr(network, "_into", lambda packed, vectors, *others: seen.append(vectors.data_ptr()))
    network.evaluate(2)
    network.retime(tiny.modulation[::-1])
    network.evaluate(2)
    assert seen[0] == seen[1]


def test_torchs_rows_may_change_in_any_mode_of_torch(tiny, packed, longer_modulation) -> None:
    """What is made in inference mode may otherwise not be written outside of it."""
    import torch

    with torch.inference_mode():
        network = TORCH.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        plain = outputs(network, packed, 3)
    network.retime(tiny.modulation)
    with torch.inference_mode():
        network.retime(longer_modulation)
    network.retime(longer_modulation)
    network.retime(tiny.modulation)
    assert outputs(network, packed, 3) == plain


def test_torchs_lack_of_memory_is_told_as_it_is(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain knows for which size, and tells."""
    import torch

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    network: Any = TORCH.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    monkeypatch.setattr(network, "_into", fail)
    with pytest.raises(torch.OutOfMemoryError):
        network.evaluate(0)
    monkeypatch.setattr("mrs.runtime.backends.torch.weights_of", fail)
    with pytest.raises(torch.OutOfMemoryError):
        TORCH.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))


def test_torch_has_no_engines(tiny) -> None:
    assert TORCH.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export() is None
    refused(
        lambda: TORCH.restore(b"engine", tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
        "torch-eager has no compiled engines",
    )


def test_an_operation_that_torch_does_not_know(tiny) -> None:
    import onnx

    model = onnx.load_from_string(tiny.graph)
    next(node for node in model.graph.node if node.op_type == "Mul").op_type = "Gelu"
    graph = model.SerializeToString()
    refused(
        lambda: TORCH.compile(graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
        "does not know the graph's operation Gelu",
    )
