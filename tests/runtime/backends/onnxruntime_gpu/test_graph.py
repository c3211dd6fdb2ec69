"""The graph that ONNX Runtime's providers get: bfloat16 where they have it, and no addresses from the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from mrs.export.graph_variant import GraphVariant
from mrs.runtime.backends.onnxruntime_gpu import backend, installation
from tests.random_nafnet import nafnet_bytes
from tests.runtime.backends.onnxruntime_gpu.outputs import PROVIDERS, SHAPE

pytestmark = pytest.mark.usefixtures("one_thread")

TO_ARRAY = onnx.numpy_helper.to_array
# docs/OperatorKernels.md of ONNX Runtime, Operators implemented by CUDAExecutionProvider: those that have bfloat16, and
# from which opset on.
IN_BFLOAT16 = {"Add": 13, "Cast": 13, "Conv": 22, "Mul": 13, "Split": 18, "Sub": 13, "Transpose": 13}
IN_FLOAT32 = {"Add", "Cast", "Conv", "DepthToSpace", "Div", "LayerNormalization", "Mul",
              "ReduceL2", "ReduceMean", "Split", "Sqrt", "Sub", "Transpose"}  # fmt: skip


@pytest.mark.parametrize("norm", ["layernorm", "moments", "length"])
def test_bfloat16_is_of_operations_that_the_provider_has(tiny, norm: str) -> None:
    graph = nafnet_bytes(tiny.net, GraphVariant(norm, "split"))
    model = onnx.load_from_string(backend._typed(graph, "bf16", SHAPE, installation.CUDA))
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model)
    types = {value.name: value.type.tensor_type.elem_type for value in (
        *model.graph.input, *model.graph.output, *model.graph.value_info)}  # fmt: skip
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if onnx.TensorProto.BFLOAT16 in {types[name] for name in (*node.input, *node.output)}:
            assert IN_BFLOAT16[node.op_type] <= model.opset_import[0].version
        else:
            assert node.op_type in IN_FLOAT32
    assert {types["packed"], types["output"]} == {onnx.TensorProto.BFLOAT16}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_no_split_copies_addresses_from_the_host(tiny, precision: str) -> None:
    """A replay would read them where they no longer are; halves are an argument of the kernel."""
    graph = nafnet_bytes(tiny.net, GraphVariant("layernorm", "split"))
    model = onnx.load_from_string(backend._typed(graph, precision, SHAPE, installation.CUDA))
    sizes = {tensor.name: TO_ARRAY(tensor).tolist() for tensor in model.graph.initializer if tensor.data_type == 7}
    splits = [sizes[node.input[1]] for node in model.graph.node if node.op_type == "Split"]
    assert splits
    assert all(len(each) <= 32 and len(set(each)) == 1 for each in splits)
    first, *parts = [(value.name, value.type.tensor_type) for value in model.graph.input]
    assert first[0] == "packed"
    assert {kind.elem_type for _, kind in parts} == {onnx.TensorProto.FLOAT}
    assert sum(kind.shape.dim[1].dim_value for _, kind in parts) == tiny.modulation.shape[1]


def test_tensorrt_gets_the_modulation_whole(tiny) -> None:
    """It wants addresses that are multiples of 256."""
    model = onnx.load_from_string(backend._typed(tiny.graph, "fp32", SHAPE, installation.TENSORRT))
    assert [value.name for value in model.graph.input] == ["packed", "modulation"]


def test_the_graph_for_cuda_is_the_same_function_to_the_last_bit(tiny, packed) -> None:
    graphs = [backend._typed(tiny.graph, "bf16", SHAPE, provider) for provider in PROVIDERS.values()]
    assert graphs[0] != graphs[1]
    found = [by_torch(graph, packed, tiny.modulation) for graph in graphs]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def by_torch(graph: bytes, packed: np.ndarray[Any, Any], modulation: Any) -> Any:
    """The graph node by node, with its casts."""
    from mrs.runtime.backends import torch_graph as calls

    dtypes = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.BFLOAT16: torch.bfloat16}
    model = onnx.load_from_string(graph)
    parts = list(model.graph.input)[1:]
    if parts[0].name != "modulation":
        # Cut again, for a function of the whole.
        sizes = np.array([part.type.tensor_type.shape.dim[1].dim_value for part in parts])
        model.graph.initializer.append(onnx.numpy_helper.from_array(sizes, "sizes"))
        cut = onnx.helper.make_node("Split", ["modulation", "sizes"], [part.name for part in parts], axis=1)
        model.graph.node.insert(0, cut)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            tensor.CopyFrom(onnx.numpy_helper.from_array(_as_float32(tensor), tensor.name))
    structure, arrays = calls.read(model.SerializeToString())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(calls.OPERATIONS, "Cast", lambda attributes: lambda x: x.to(dtypes[attributes["to"]]))
        patch.setattr(calls, "fused", lambda nodes, numbers, ones: iter(nodes))
        program = calls.program_of(structure, compiled=True)
    row = torch.from_numpy(modulation[0][None, :, None, None].copy())
    weights = calls.weights_of(structure, arrays, torch.bfloat16, "cpu")
    with torch.inference_mode():
        return program(torch.from_numpy(packed).bfloat16(), row, weights)


def _as_float32(tensor: Any) -> Any:
    """Weights that torch converts back without a loss."""
    bits = np.frombuffer(tensor.raw_data, "<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(tuple(tensor.dims))
