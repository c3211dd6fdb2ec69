"""The graph's operations as torch's kernels: the same numbers, channels last, and one call where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.export.graph_variant import GraphVariant
from tests.random_nafnet import nafnet_bytes

pytest.importorskip("torch")
import torch
import torch.nn.functional as F

from mrs.runtime.backends import torch_graph
from mrs.runtime.backends.torch_graph import OPERATIONS, program_of, read, weights_of

pytestmark = pytest.mark.usefixtures("one_thread")
LAST = torch.channels_last


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    made = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32)).to(dtype)
    return made.contiguous(memory_format=LAST) if len(shape) == 4 else made


@pytest.fixture(scope="module")
def split(tiny) -> bytes:
    """The graph that torch runs: norms as layer norms, gates as halves."""
    return nafnet_bytes(tiny.net, GraphVariant("layernorm", "split"))


def computed(graph: bytes, tiny: Any, packed: torch.Tensor, dtype: torch.dtype, compiled: bool) -> torch.Tensor:
    structure, arrays = read(graph)
    weights = weights_of(structure, arrays, dtype, "cpu")
    vectors = torch.from_numpy(tiny.modulation[1][None, :, None, None].copy())
    with torch.inference_mode():
        return program_of(structure, compiled)(packed.to(dtype).contiguous(memory_format=LAST), vectors, weights)


@pytest.mark.parametrize("shape", [(1, 12, 5, 7), (2, 16, 1, 3), (3, 4, 8, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pixels_are_shuffled_as_torch_does_and_channels_stay_last(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = drawn(*shape, dtype=dtype)
    made = OPERATIONS["DepthToSpace"]({"blocksize": 2})(x)
    assert torch.equal(made, F.pixel_shuffle(x, 2))
    assert made.is_contiguous(memory_format=LAST)
    # On a GPU torch's own would leave planes.
    meta = OPERATIONS["DepthToSpace"]({"blocksize": 2})(torch.empty_like(x, device="meta"))
    assert meta.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_mean_over_pixels_is_float32_and_rounded_once(dtype: torch.dtype) -> None:
    # Their sum is beyond float16.
    x = (100 + drawn(1, 4, 64, 64)).to(dtype)
    made = OPERATIONS["GlobalAveragePool"]({})(x)
    assert torch.equal(made, x.double().mean((2, 3), keepdim=True).to(torch.float32).to(dtype))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (1, 8, 5, 3), (2, 8, 1, 1)], ids=str)
def test_a_convolution_of_single_pixels_is_a_product(shape: tuple[int, ...], compiled: bool, bias: bool) -> None:
    x, weight, added = drawn(*shape), drawn(6, 8, 1, 1), drawn(6)
    attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "group": 1, "compiled": compiled}
    made = OPERATIONS["Conv"](attributes)(x, weight, *([added] if bias else []))
    torch.testing.assert_close(made, F.conv2d(x, weight, added if bias else None), rtol=0, atol=1e-5)
    assert made.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_program_computes_what_the_network_does(split: bytes, tiny: Any, compiled: bool, count: int) -> None:
    packed = drawn(count, 6, 8, 12)
    wanted = torch.from_numpy(
        tiny.denoise(packed[:, :3].numpy() + packed[:, 3:].numpy(), packed[:, 3:].numpy(), tiny.table.times[1])
    )
    largest = float(wanted.abs().max())
    found = computed(split, tiny, packed, torch.float32, compiled)
    assert float((found - wanted).abs().max()) < 1e-5 * largest
    for dtype, bound in ((torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
        found = computed(split, tiny, packed, dtype, compiled)
        assert found.dtype == dtype
        assert float((found.float() - wanted).abs().max()) < bound * largest


def test_every_norm_is_one_call(split: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    structure, _ = read(split)
    kinds: list[str] = []
    for kind, make in OPERATIONS.items():
        monkeypatch.setitem(OPERATIONS, kind, lambda attributes, kind=kind, make=make: kinds.append(kind))
    program_of(structure, compiled=False)
    assert kinds.count("Norm") == 2 * kinds.count("GlobalAveragePool") > 0
    assert {"Transpose", "LayerNormalization"}.isdisjoint(kinds)


def test_a_norm_with_a_gain_of_its_own_stays_as_it_is(split: bytes, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No architecture writes one; the numbers must be right all the same."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(split)
    gains = {node.input[1] for node in model.graph.node if node.op_type == "LayerNormalization"}
    for tensor in model.graph.initializer:
        if tensor.name in gains:
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))
    doubled = model.SerializeToString()
    assert gains
    assert all(name.encode() in read(doubled)[0] for name in gains)
    packed = drawn(1, 6, 8, 12)
    one, other = (computed(graph, tiny, packed, torch.float32, False) for graph in (split, doubled))
    assert float((one - other).abs().max()) > 1e-3
    monkeypatch.setattr(torch_graph, "_fused", lambda nodes, uses, ones: iter(nodes))
    torch.testing.assert_close(computed(doubled, tiny, packed, torch.float32, False), other, rtol=1e-5, atol=1e-5)


def test_networks_of_one_structure_share_it_without_their_weights(split: bytes) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(split)
    own = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    for tensor in model.graph.initializer:
        if tensor.name in own:
            tensor.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(tensor), tensor.name))
    (one, weights), (other, tripled) = read(split), read(model.SerializeToString())
    assert one == other
    assert len(one) < len(split) / 2
    assert all(np.array_equal(3 * weights[name], tripled[name]) for name in own)
    # An epsilon is none of the weights.
    next(node for node in model.graph.node if node.op_type == "LayerNormalization").attribute[1].f = 1e-3
    assert read(model.SerializeToString())[0] != one
