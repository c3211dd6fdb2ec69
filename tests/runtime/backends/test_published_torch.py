"""torch computes every published network, in every precision, with as few calls as it has for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from mrs.export.architectures.unet import ConditionalUNet  # noqa: E402 (needs the library above)
from mrs.export.architectures.unet.graph import build_graph  # noqa: E402
from mrs.export.architectures.unet.module import module_of  # noqa: E402
from mrs.runtime.backends import Torch, torch_graph, torch_operations  # noqa: E402
from mrs.runtime.backends.settings import CompileSettings  # noqa: E402
from mrs.runtime.backends.torch_operations import OPERATIONS  # noqa: E402
from mrs.runtime.errors import BackendError  # noqa: E402
from mrs.runtime.onnx_guard.operators import ATTRIBUTES  # noqa: E402
from tests.golden.networks import TOLERANCE  # noqa: E402
from tests.runtime.backends.published import BOUNDS, NAMES, UNETS, case, graph  # noqa: E402

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(40)]
EAGER = Torch("torch-eager", compiled=False, place="cpu")
# Of an encoder, which runs on a CPU.
ENCODERS = {"Pad", "Slice"}
# Torch runs no graph that was quantised.
QUANTISING = {"QuantizeLinear", "DequantizeLinear"}


def compiled(name: str, precision: str, which: int = 1, backend: Torch = EAGER) -> Any:
    given = case(name, which)
    made = backend.compile(given.graph, given.modulation, given.packed.shape, precision, CompileSettings(1))
    made.packed.copy_(torch.from_numpy(given.packed))
    if given.context is not None:
        made.context.copy_(torch.from_numpy(given.context))
    return made


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_published_outputs(name: str, which: int) -> None:
    given, made = case(name, which), compiled(name, "fp32", which)
    for step, wanted in enumerate(given.outputs):
        made.evaluate(step)
        height, width = wanted.shape[2:]
        np.testing.assert_allclose(made.output[..., :height, :width], wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_near_the_published_outputs(name: str, precision: str) -> None:
    given, made = case(name), compiled(name, precision)
    for step in range(len(given.outputs)):
        made.evaluate(step)
        # Not float32 by another name either.
        assert BOUNDS["fp32"] < given.error(made.output.float().numpy(), step) < BOUNDS[precision]


def test_whatever_a_plan_may_hold_is_known() -> None:
    assert ATTRIBUTES.keys() - ENCODERS - QUANTISING <= OPERATIONS.keys()


def counted(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each operation is called in an evaluation."""
    counts: dict[str, int] = {}
    for kind, make in OPERATIONS.items():

        def counting(attributes: Any, kind: str = kind, make: Any = make) -> Any:
            counts[kind] = counts.get(kind, 0) + 1
            return make(attributes)

        monkeypatch.setitem(OPERATIONS, kind, counting)
    torch_graph.program_of(torch_graph.read(graph(name))[0], compiled=False)
    return counts


def nodes_of(name: str) -> list[onnx.NodeProto]:
    return list(onnx.load_from_string(graph(name)).graph.node)


@pytest.mark.parametrize("name", UNETS)
def test_what_torch_has_a_call_for_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, counts = nodes_of(name), counted(name, monkeypatch)
    kinds = [node.op_type for node in nodes]
    assert counts["Silu"] == kinds.count("Sigmoid")
    assert {"Sigmoid", "Erf"}.isdisjoint(counts)
    assert counts.get("ExactGelu", 0) == kinds.count("Erf")
    softmaxes = [node.attribute[0].i for node in nodes if node.op_type == "Softmax"]
    # Queries of linear attention alone stay a softmax; keys are with the means, and an attention is one call.
    linear = softmaxes.count(2)
    assert counts.get("PixelMean", 0) == counts.get("Softmax", 0) == linear
    assert counts.get("SelfAttention", 0) == len(softmaxes) - 2 * linear
    assert counts["Residual"] == linear + counts.get("SelfAttention", 0)
    # Biases are added by the product.
    if name == "daclip_unet_full":
        assert counts["Linear"] == 9 * counts["SelfAttention"]


@pytest.mark.parametrize("name", ["daclip_unet_full", "unet_denoising"])
def test_an_attention_of_all_pixels_has_no_number_for_each_pair(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    function = torch.nn.functional.scaled_dot_product_attention

    def watched(query: Any, key: Any, value: Any, **more: Any) -> Any:
        asked.append(tuple(query.shape))
        assert more == {"scale": 1.0}
        # As torch's kernels for GPUs want them: each head's numbers beside each other.
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        return function(query, key, value, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    made = compiled(name, "fp16")
    asked.clear()
    made.evaluate(0)
    assert len(asked) == {"daclip_unet_full": 3, "unet_denoising": 1}[name]
    assert {shape[3] for shape in asked} == {32}


@pytest.mark.parametrize("name", UNETS)
def test_calls_that_are_one_compute_what_the_nodes_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, together = case(name), compiled(name, "fp32")
    monkeypatch.setattr(torch_graph, "fused", lambda nodes, numbers, ones: iter(nodes))
    apart = compiled(name, "fp32")
    for step in range(len(given.outputs)):
        together.evaluate(step)
        apart.evaluate(step)
        torch.testing.assert_close(together.output, apart.output, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("drawn", [0.0, 1.0, 8.0], ids=["even", "random", "few pixels"])
def test_a_mean_over_a_million_pixels(dtype: Any, drawn: float) -> None:
    """Each weighs next to nothing to float16, or few have all the weight."""
    pixels, channels = 3 << 18, 4
    random = torch.Generator().manual_seed(0)
    tokens = 1 + torch.randn(1, 1, pixels, channels, generator=random)
    keys = (drawn * torch.randn(1, 1, 2, pixels, generator=random)).to(dtype)
    exact = keys.double().softmax(-1) @ tokens.double()
    found = torch_operations._pixel_mean({})(keys, tokens, keys)
    assert found.dtype == torch.float32
    bound = {torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype] * float(exact.abs().max())
    assert float((found - exact).abs().max()) < bound
    if dtype == torch.float16 and not drawn:
        # Without the factor all of them are rounded to what float16 has there.
        plain = (keys.softmax(-1, dtype=torch.float32).half() @ tokens.half()).double()
        assert float((plain - exact).abs().max()) > 5 * bound


def test_the_largest_mean_is_no_infinity() -> None:
    """A norm's largest number is the root of the channels; one pixel may have all the weight."""
    channels = 4096
    tokens = torch.zeros(1, 1, 8, channels)
    tokens[..., 5] = channels**0.5
    keys = torch.zeros(1, 1, 1, 8, dtype=torch.float16)
    keys[..., 2] = 60.0
    found = torch_operations._pixel_mean({})(keys, tokens, keys)
    torch.testing.assert_close(found[..., 5], torch.full((1, 1, 1), channels**0.5))


def test_what_depends_on_time_alone_is_float32() -> None:
    structure, arrays = torch_graph.read(graph("daclip_unet_full"))
    names = sorted(arrays)
    types = dict(zip(names, (each.dtype for each in torch_graph.weights_of(structure, arrays, torch.float16, "cpu")),
                     strict=True))  # fmt: skip
    assert types["mlps.weight"] == types["mlps.bias"] == torch.float32
    kept = {name for name, dtype in types.items() if dtype == torch.float32 and arrays[name].ndim > 1}
    # And small matrices of linear attention.
    assert {name for name in kept if "mlps" not in name} == {
        name for name in names if name.endswith((".fn.v.weight", "fn.to_out.0.weight")) and arrays[name].ndim == 4
    }


def test_a_compiler_gets_the_network_whole() -> None:
    """What torch.compile traces, it can: no number of a value decides anything."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = module_of(ConditionalUNet(32, (32, 32), middle="transformer", context=4, prompt=True)).eval()
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    structure, arrays = torch_graph.read(build_graph(state, net.arch).SerializeToString())
    weights = torch_graph.weights_of(structure, arrays, torch.bfloat16, "cpu")
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(1, 6, 8, 4, generator=random).bfloat16(), torch.randn(1, 128, 1, 1, generator=random)]
    context = torch.randn(1, 160, 1, 1, generator=random)
    program = torch_graph.program_of(structure, compiled=True)
    with torch.no_grad():
        traced = torch.compile(program, backend="eager", fullgraph=True, dynamic=False)
        torch.testing.assert_close(traced(*given, [*weights, context]), program(*given, [*weights, context]))


def test_networks_of_one_structure_share_it_without_their_weights() -> None:
    one, arrays = torch_graph.read(graph("irsde_unet_d2"))
    assert len(one) < len(graph("irsde_unet_d2")) / 4
    model = onnx.load_from_string(graph("irsde_unet_d2"))
    for tensor in model.graph.initializer:
        if tensor.name.endswith(("weight", "bias", ".g")):
            tensor.CopyFrom(onnx.numpy_helper.from_array(3 * onnx.numpy_helper.to_array(tensor), tensor.name))
    other, tripled = torch_graph.read(model.SerializeToString())
    assert one == other
    assert sum(np.array_equal(3 * arrays[name], tripled[name]) for name in arrays) > len(arrays) / 2


def test_an_operation_of_no_plan_is_refused() -> None:
    model = onnx.load_from_string(graph("unet_denoising"))
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Tanh"
    with pytest.raises(BackendError, match="torch does not know the graph's operation Tanh"):
        torch_graph.program_of(torch_graph.read(model.SerializeToString())[0], compiled=False)


@pytest.mark.parametrize("name", ["irsde_unet_d2", "nafnet_latent_dehazing"])
def test_residuals_are_kept_as_what_reads_them_wants_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms compute in float32, and a NAFNet's read residuals; convolutions want half precision, and a UNet's do."""
    count = []
    monkeypatch.setattr(torch_graph, "widened", lambda operation: count.append(1) or operation)
    torch_graph.program_of(torch_graph.read(graph(name))[0], compiled=False)
    assert bool(count) == (name not in UNETS)
    half, more = torch.zeros(1, 2, 3, 4, dtype=torch.float16), torch.zeros(1, 2, 3, 4)
    assert OPERATIONS["Residual"]({})(half, more).dtype == torch.float16
    assert OPERATIONS["Add"]({})(half, more).dtype == torch.float32
