"""Every backend keeps the protocol: its buffers stay, a step's modulation is that step's, and failures are one line."""

from __future__ import annotations

import copy
import gc
import importlib.util
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.export.graph_variant import NORMS
from mrs.runtime import backends
from mrs.runtime.backends import Backend, Torch, openvino
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError, InputError

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(26)]

SHAPE = (2, 6, 8, 12)


TORCH = Torch("torch-eager", compiled=False, place="cpu")
CPU = {name: each for name, each in backends.BACKENDS.items() if each.device == "cpu"}


@pytest.fixture(params=[*CPU, "torch"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The backends for CPUs, and the one for GPUs on a CPU, where it computes the same."""
    return CPU.get(request.param, TORCH)


@pytest.fixture(scope="module")
def packed() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def expected(tiny, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    difference, mu = packed[:, :3], packed[:, 3:]
    return tiny.denoise(difference + mu, mu, tiny.table.times[step])


def fill(network: Any, packed: np.ndarray[Any, Any]) -> None:
    """Write a network's input."""
    if isinstance(network.packed, np.ndarray):
        network.packed[...] = packed
        return
    import torch

    network.packed.copy_(torch.from_numpy(np.ascontiguousarray(packed)))


def read(buffer: Any) -> np.ndarray[Any, Any]:
    """A copy of a network's buffer as a dense array of float32."""
    return buffer.copy() if isinstance(buffer, np.ndarray) else np.ascontiguousarray(buffer.float().numpy())


def address(buffer: Any) -> int:
    return int(buffer.ctypes.data if isinstance(buffer, np.ndarray) else buffer.data_ptr())


def output(network: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    """What a network gives for an input at a step; NaN where it does not write."""
    fill(network, packed)
    network.output[...] = np.nan
    network.evaluate(step)
    return read(network.output)


def refused(call: Any, match: str) -> None:
    with pytest.raises(BackendError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


# What works


def test_every_step_has_its_own_modulation(backend: Backend, tiny, packed) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    # Back and forth, and twice the same.
    for step in (2, 0, 0, 1, 2):
        wanted = expected(tiny, packed, step)
        np.testing.assert_allclose(output(network, packed, step), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    steps = [expected(tiny, packed, step) for step in range(3)]
    assert np.abs(steps[0] - steps[1]).max() > 1e-2


def test_the_buffers_stay_where_they_are(backend: Backend, tiny, packed) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    buffers = network.packed, network.output
    addresses = [address(buffer) for buffer in buffers]
    assert not read(network.packed).any()
    assert [tuple(buffer.shape) for buffer in buffers] == [SHAPE, (2, 3, 8, 12)]
    assert [str(buffer.dtype).removeprefix("torch.") for buffer in buffers] == ["float32"] * 2
    for scale in (1.0, -0.5):
        fill(network, scale * packed)
        network.evaluate(1)
        np.testing.assert_allclose(read(buffers[1]), expected(tiny, scale * packed, 1), rtol=0, atol=1e-4)
    assert network.packed is buffers[0]
    assert network.output is buffers[1]
    assert [address(buffer) for buffer in buffers] == addresses


def test_arrays_of_the_host_are_dense_planes(tiny) -> None:
    for backend in CPU.values():
        network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        assert network.packed.flags.c_contiguous
        assert network.output.flags.c_contiguous


def outputs(network: Any, packed: np.ndarray[Any, Any], steps: int) -> list[bytes]:
    """What a network gives at each step, to the last bit."""
    return [output(network, packed, step).tobytes() for step in range(steps)]


@pytest.fixture(scope="module")
def longer(tiny) -> np.ndarray[Any, Any]:
    """The modulation of five other times."""
    from mrs.export.architectures.nafnet.modulation import modulation_table

    return modulation_table(tiny.net, [97.0, 55.5, 30.0, 12.0, 3.0])


@pytest.mark.parametrize("count", [5, 3, 1], ids=["more rows", "as many", "fewer"])
def test_a_retimed_network_is_one_compiled_for_these_times(backend: Backend, tiny, packed, longer, count: int) -> None:
    times = longer[-count:]
    fresh = backend.compile(tiny.graph, times, SHAPE, "fp32", CompileSettings(1))
    retimed = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    before = outputs(retimed, packed, 3)
    retimed.retime(times)
    assert outputs(retimed, packed, count) == outputs(fresh, packed, count)
    assert before[0] != outputs(fresh, packed, 1)[0]
    # None of the old rows is left behind the new ones.
    with pytest.raises((IndexError, BackendError), match=r"range|bounds"):
        retimed.evaluate(count)
    # And back.
    retimed.retime(tiny.modulation)
    assert outputs(retimed, packed, 3) == before


def test_retiming_leaves_the_buffers_and_compiles_nothing(
    backend: Backend, tiny, packed, longer, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    buffers = network.packed, network.output
    fill(network, packed)
    monkeypatch.setattr(type(backend), "compile", lambda *_: pytest.fail("compiled"))
    network.retime(longer)
    assert network.packed is buffers[0]
    assert network.output is buffers[1]
    np.testing.assert_array_equal(read(network.packed), packed)


def test_rows_in_another_order_of_memory_are_the_same_rows(backend: Backend, tiny, packed, longer) -> None:
    network = backend.compile(tiny.graph, longer, SHAPE, "fp32", CompileSettings(1))
    plain = outputs(network, packed, 5)
    wide = np.zeros((10, 2 * longer.shape[1]), np.float32)
    wide[::2, ::2] = longer
    for turned in (np.asfortranarray(longer), wide[::2, ::2]):
        network.retime(turned)
        assert outputs(network, packed, 5) == plain


def test_rows_outlive_the_array_they_came_from(backend: Backend, tiny, packed, longer) -> None:
    """Engines hold addresses; the network must hold the memory."""
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    network.retime(longer.copy())
    gc.collect()
    # Would be given the memory that was freed.
    others = [np.full(longer.shape, np.nan, np.float32) for _ in range(20)]
    fresh = backend.compile(tiny.graph, longer, SHAPE, "fp32", CompileSettings(1))
    assert outputs(network, packed, 5) == outputs(fresh, packed, 5)
    assert len(others) == 20


def test_two_networks_share_nothing(backend: Backend, tiny, packed) -> None:
    one, other = (backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)) for _ in range(2))
    before = output(one, packed, 0)
    # Its own input is still empty.
    other.evaluate(0)
    np.testing.assert_array_equal(read(one.output), before)
    assert np.abs(read(other.output) - before).max() > 1e-3


def test_it_says_what_it_is(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend.name in CPU:
        assert backend in backends.available()
    else:
        # Triton may be missing where torch runs on a CPU.
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert backend.missing() is None
    assert backend.version()[0].isdigit()
    assert backend.precisions()[0] == "fp32"


def test_openvino_restores_what_it_exported(tiny, packed) -> None:
    backend = backends.get("openvino")
    first = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    engine = first.export()
    assert engine
    again = backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    for network in (first, again):
        network.packed[...] = packed
        network.evaluate(2)
    np.testing.assert_array_equal(again.output, first.output)


def test_onnxruntime_has_no_engines(tiny) -> None:
    backend = backends.get("onnxruntime")
    assert backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export() is None
    refused(
        lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "fp32", CompileSettings(1)), "no compiled engines"
    )


def test_bf16_is_near_float32_where_the_processor_has_it(tiny, packed) -> None:
    backend = backends.get("openvino")
    if "bf16" not in backend.precisions():
        pytest.skip("this processor has no bf16")
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1))
    network.packed[...] = packed
    network.evaluate(0)
    wanted = expected(tiny, packed, 0)
    error = np.abs(network.output - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < error < 0.1


# torch at half precision, and every way to write the graph down

# Largest error of each precision, relative to the largest output.
ERRORS = {"bf16": 1e-2, "fp16": 2e-3}
SHAPES = [(norm, gate) for norm in NORMS for gate in ("weights", "split")]


def graph_of(net: Any, norm: str, gate: str) -> bytes:
    from mrs.export.architectures.nafnet.graph import build_graph
    from mrs.export.graph_variant import GraphVariant

    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return build_graph(state, net.arch, variant=GraphVariant(norm, gate)).SerializeToString()


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
    found = by_torch(graph_of(tiny.net, norm, gate), tiny, packed, "fp32", 1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("norm", "gate"), SHAPES)
@pytest.mark.parametrize("precision", ERRORS)
def test_half_precision_is_near_float32(tiny, packed, precision: str, norm: str, gate: str) -> None:
    graph = graph_of(tiny.net, norm, gate)
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
        graph_of(tiny.net, "layernorm", "split"), tiny.modulation, SHAPE, precision, CompileSettings(1)
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
    wanted = by_torch(graph_of(net, norm, gate), tiny, packed, "fp32")
    found = by_torch(graph_of(net, norm, gate), tiny, packed, precision)
    largest = np.abs(wanted).max()
    assert np.abs(found - wanted).max() / largest < 2e-2
    # The published epsilon of other types would be far from that.
    monkeypatch.setattr(module, "NORM_EPS", 1e-3)
    other = by_torch(graph_of(net, norm, gate), tiny, packed, "fp32")
    assert np.abs(other - wanted).max() / largest > 0.1
    # Float32 is what the published network gives.
    assert np.abs(expected(replace(tiny, net=net), packed, 0) - wanted).max() / largest < 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_the_norms_statistics_are_float32(tiny, packed, norm: str) -> None:
    """The squares of these residuals overflow in float16."""
    net = scaled(tiny, 1000.0)
    graph = graph_of(net, norm, "split")
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


def test_torchs_rows_may_change_in_any_mode_of_torch(tiny, packed, longer) -> None:
    """What is made in inference mode may otherwise not be written outside of it."""
    import torch

    with torch.inference_mode():
        network = TORCH.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        plain = outputs(network, packed, 3)
    network.retime(tiny.modulation)
    with torch.inference_mode():
        network.retime(longer)
    network.retime(longer)
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
    monkeypatch.setattr("mrs.runtime.backends.torch_graph.weights_of", fail)
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


# What does not


@pytest.mark.parametrize("precision", ["fp64", "int8", "", "float32"])
def test_a_precision_that_it_does_not_run(backend: Backend, tiny, precision: str) -> None:
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, precision, CompileSettings(1)),
        f"runs no {precision}",
    )


def test_no_cpu_runs_fp16(tiny) -> None:
    for backend in CPU.values():
        refused(lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp16", CompileSettings(1)), "runs no fp16")  # noqa: B023


def test_bf16_is_refused_where_the_processor_lacks_it(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("openvino")
    monkeypatch.setattr(type(backend), "precisions", lambda self: ("fp32",))
    refused(lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1)), "runs no bf16")
    refused(lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "bf16", CompileSettings(1)), "runs no bf16")


@pytest.mark.parametrize(
    ("native", "precisions"), [(["FP32", "INT8"], ("fp32",)), (["FP32", "BF16"], ("fp32", "bf16"))], ids=str
)
def test_openvino_tells_what_the_processor_computes(
    monkeypatch: pytest.MonkeyPatch, native: list[str], precisions: tuple[str, ...]
) -> None:
    monkeypatch.setattr(openvino, "_core", lambda: SimpleNamespace(get_property=lambda device, name: native))
    assert backends.get("openvino").precisions() == precisions


@pytest.mark.parametrize("graph", [b"", b"garbage" * 10, b"<net/>", "half"], ids=["empty", "garbage", "XML", "half"])
def test_a_graph_that_is_broken(backend: Backend, tiny, graph: Any) -> None:
    graph = tiny.graph[: len(tiny.graph) // 2] if graph == "half" else graph
    says = f"{backend.name} cannot compile" if backend.name in CPU else r"the graph (cannot be read|is empty)"
    refused(lambda: backend.compile(graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)), says)


@pytest.mark.parametrize("shape", [(1, 6, 7, 12), (1, 4, 8, 12)], ids=["no multiple", "channels"])
def test_a_shape_that_the_graph_does_not_have(backend: Backend, tiny, shape: Any) -> None:
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, shape, "fp32", CompileSettings(1)).evaluate(0),
        backend.name.partition("-")[0],
    )


@pytest.mark.parametrize("size", [-4, 4, 0], ids=["shorter", "longer", "empty"])
def test_a_modulation_that_the_graph_does_not_have(backend: Backend, tiny, size: int) -> None:
    steps, own = tiny.modulation.shape
    modulation = np.zeros((steps, own + size if size else 0), np.float32)
    refused(
        lambda: backend.compile(tiny.graph, modulation, SHAPE, "fp32", CompileSettings(1)).evaluate(0),
        backend.name.partition("-")[0],
    )

    def retimed() -> None:
        network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        network.retime(modulation)
        network.evaluate(0)

    refused(retimed, backend.name.partition("-")[0])


@pytest.mark.parametrize("damage", [lambda e: b"", lambda e: b"garbage" * 99, lambda e: e[: len(e) // 2]], ids=range(3))
def test_an_engine_that_is_damaged(tiny, damage: Any) -> None:
    backend = backends.get("openvino")
    engine = damage(backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export())
    refused(
        lambda: backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
        "openvino cannot load its engine",
    )


def test_an_engine_for_another_shape_or_network(tiny) -> None:
    backend = backends.get("openvino")
    engine = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export()
    assert engine is not None
    refused(
        lambda: backend.restore(engine, tiny.modulation, (1, 6, 8, 8), "fp32", CompileSettings(1)),
        "cannot load its engine",
    )
    other = backend.restore(engine, tiny.modulation[:, :-4], SHAPE, "fp32", CompileSettings(1))
    refused(lambda: other.evaluate(0), "openvino failed at step 0")


def test_an_engine_whose_error_quotes_its_bytes(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's messages hold names out of the file, and Python cannot decode them."""
    backend = backends.get("openvino")

    def fail(*_: object) -> None:
        b"core.cpp:217:\nno layer \xff\xfe here\n".decode()

    core = SimpleNamespace(import_model=fail, read_model=fail, get_property=lambda *_: [])
    monkeypatch.setattr(openvino, "_core", lambda: core)
    for call, says in (
        (
            lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
            "cannot load its engine for .*: no layer",
        ),
        (
            lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
            "cannot compile the graph .*: no layer",
        ),
    ):
        refused(call, says)


def test_bfloat16_that_openvino_does_not_compute(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would compute in float32 without a word."""
    backend = backends.get("openvino")
    if "bf16" in backend.precisions():
        pytest.skip("this processor has bfloat16")
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1)),
        "runs no bf16 .*use precision fp32",
    )
    monkeypatch.setattr(type(backend), "precisions", lambda self: ("fp32", "bf16"))
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1)),
        "computes in float32 here",
    )


@pytest.mark.parametrize("limit", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_variable_that_hides_instructions_is_named(tiny, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(limit, "AVX2")
    backend = backends.get("openvino")
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, (1, 4, 8, 12), "fp32", CompileSettings(1)),
        f".unset {limit}, which",
    )


def test_an_engine_that_fails_while_running(backend: Backend, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("\n  out of luck\nat line 3")

    network: Any = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    broken: Any = SimpleNamespace(set_tensor=lambda *_: None, infer=fail, run_with_iobinding=fail)
    inside = {"openvino": "_request", "onnxruntime": "_session", "torch-eager": "_into"}[backend.name]
    monkeypatch.setattr(network, inside, fail if inside == "_into" else broken)
    refused(
        lambda: network.evaluate(1),
        f"^{backend.name.partition('-')[0]} failed at step 1: out of luck( .use backend \\w+.)?$",
    )


# Libraries that are not there


@pytest.mark.parametrize("name", CPU)
def test_a_library_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get(name)

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("mrs.runtime.system.libraries.version", absent)
    assert backend.missing() == f"{backend.name} is not installed: pip install {backend.name}"
    assert backend.version() == ""
    assert backend not in backends.available()


@pytest.mark.parametrize("error", [ImportError("libwhat.so.1: not found\nmore"), RuntimeError("no plugins")], ids=repr)
def test_openvino_that_does_not_load(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(openvino, "_core", fail)
    assert backends.get("openvino").missing() == f"openvino does not load: {str(error).splitlines()[0]}"


def test_openvino_without_its_cpu_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_core", lambda: SimpleNamespace(available_devices=["GPU"]))
    assert "no CPU plugin" in str(backends.get("openvino").missing())


def test_onnxruntime_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    # None in this table makes the import fail.
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert str(backends.get("onnxruntime").missing()).startswith("onnxruntime does not load: ")


def test_onnxruntime_without_a_cpu_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    assert "no CPU provider" in str(backends.get("onnxruntime").missing())


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


def test_a_backend_that_nobody_knows() -> None:
    with pytest.raises(
        InputError, match=r"'directml' is unknown \(use one of openvino, onnxruntime, tensorrt, onnxruntime-cuda, "
    ):
        backends.get("directml")


def test_backends_are_listed_by_their_names_in_order_of_preference() -> None:
    # Those for CPUs first: a plan for a CPU must not fall back on a GPU while another can run.
    on_gpus = ["tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt", "torch", "torch-eager"]
    assert list(backends.BACKENDS) == ["openvino", "onnxruntime", *on_gpus]
    assert [backend.device for backend in backends.BACKENDS.values()] == ["cpu"] * 2 + ["cuda"] * 5
    assert [backend.name for backend in backends.BACKENDS.values()] == list(backends.BACKENDS)
