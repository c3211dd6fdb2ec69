"""The provider for CUDA gets every published network in operations that it has and that its graphs replay."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mrs.runtime.backends.onnxruntime_gpu import backend, installation
from mrs.runtime.backends.settings import CompileSettings
from tests.runtime.backends.published import BOUNDS, NAMES, UNETS, case, graph
from tests.runtime.backends.tensorrt import reference

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(60)]
TO_ARRAY = onnx.numpy_helper.to_array
# docs/OperatorKernels.md of ONNX Runtime, Operators implemented by CUDAExecutionProvider: those that have bfloat16 in
# opset 22, the first with convolutions in it, and those that have float32 there.
IN_BFLOAT16 = {"Add", "Cast", "Conv", "MatMul", "Mul", "Reshape", "Softmax", "Split", "Sub", "Transpose"}
# ConvTranspose from ONNX Runtime's pull request 27710 on.
IN_FLOAT32 = {"Add", "Cast", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Erf", "LayerNormalization", "MatMul",
              "Mul", "ReduceMean", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Sub",
              "Transpose"}  # fmt: skip
# Of values whose sizes are known they are constants before a session has any kernel.
CONSTANT = {"Shape"}


@functools.cache
def typed(name: str, precision: str) -> onnx.ModelProto:
    """Shared by all tests: they only look at it."""
    made = backend._typed(graph(name), precision, case(name).packed.shape, installation.CUDA)
    return onnx.load_from_string(made)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_of_operations_that_the_provider_has(name: str) -> None:
    model = onnx.shape_inference.infer_shapes(typed(name, "bf16"), check_type=True, strict_mode=True)
    onnx.checker.check_model(model)
    assert model.opset_import[0].version == 22
    types = {value.name: value.type.tensor_type.elem_type for value in (
        *model.graph.input, *model.graph.output, *model.graph.value_info)}  # fmt: skip
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in CONSTANT:
            half = onnx.TensorProto.BFLOAT16 in {types[each] for each in (*node.input, *node.output)}
            assert node.op_type in (IN_BFLOAT16 if half else IN_FLOAT32), node.name


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_no_split_copies_addresses_from_the_host(name: str, precision: str) -> None:
    """A replay would read them where they no longer are; few parts that are alike are an argument of the kernel."""
    model = typed(name, precision)
    sizes = {tensor.name: TO_ARRAY(tensor).tolist() for tensor in model.graph.initializer if tensor.data_type == 7}
    splits = [sizes[node.input[1]] for node in model.graph.node if node.op_type == "Split"]
    assert all(len(each) <= 32 and len(set(each)) == 1 for each in splits)
    # Nothing is left of those that were.
    assert not set(sizes) - {each for node in model.graph.node for each in node.input}


@pytest.mark.parametrize("name", UNETS)
def test_no_side_of_a_value_is_asked_for_at_run_time(name: str, tmp_path: Path) -> None:
    """Where a Shape is left, it runs on the host, which a graph does not replay."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    content = typed(name, "fp16").SerializeToString()
    assert any(node.op_type == "Shape" for node in onnx.load_from_string(content).graph.node)
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    left = onnx.load(tmp_path / "optimised.onnx").graph.node
    assert "Shape" not in {node.op_type for node in left}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("name", NAMES)
def test_a_published_network(engine: Any, gpu: Any, name: str, precision: str) -> None:
    given = case(name)
    made = engine.compile(given.graph, given.modulation, given.packed.shape, precision, CompileSettings(1))
    step = len(given.outputs) - 1
    gpu.wait(gpu.default)
    made.packed.copy_(torch.from_numpy(given.packed))
    if given.context is not None:
        made.context.copy_(torch.from_numpy(given.context))
    made.output.fill_(float("nan"))
    made.evaluate(step)
    gpu.wait(gpu.default)
    assert given.error(made.output.float().numpy(), step) < BOUNDS[precision]


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near_the_published_outputs(name: str) -> None:
    """The double's engine has none: node by node, as for TensorRT."""
    given, model = case(name), typed(name, "bf16")
    known = {"packed": torch.from_numpy(given.packed).bfloat16()}
    if given.context is not None:
        known["context"] = torch.from_numpy(given.context)
    # The row in the parts that the provider gets.
    parts = [value for value in model.graph.input if value.name not in known]
    row = torch.from_numpy(given.modulation[-1, None, :, None, None])
    lengths = [part.type.tensor_type.shape.dim[1].dim_value for part in parts]
    known |= dict(zip((part.name for part in parts), row.split(lengths, dim=1), strict=True))
    with torch.no_grad():
        found = reference.evaluated(reference.Program.of(model), known)["output"].float().numpy()
    assert given.error(found, len(given.outputs) - 1) < BOUNDS["bf16"]


def test_a_norm_over_pixels_is_the_same_written_out() -> None:
    from mrs.runtime.backends.onnxruntime_gpu.graph import for_cuda

    helper = onnx.helper
    names = ["gain", "shift"]
    vectors = np.random.default_rng(0).random((2, 3)).astype(np.float32)
    node = helper.make_node("InstanceNormalization", ["packed", *names], ["output"], epsilon=1e-2)
    sides = [helper.make_tensor_value_info(each, 1, [2, 3, 4, 5]) for each in ("packed", "output")]
    weights = [onnx.numpy_helper.from_array(each, name) for each, name in zip(vectors, names, strict=True)]
    model = helper.make_model(helper.make_graph([node], "norm", sides[:1], sides[1:], weights),
                              opset_imports=[helper.make_opsetid("", 18)], ir_version=9)  # fmt: skip
    feed = {"packed": 3 + np.random.default_rng(1).random((2, 3, 4, 5)).astype(np.float32)}
    contents = [model.SerializeToString(), for_cuda(model.SerializeToString(), "bf16")]
    one, two = (onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(None, feed)[0]
                for each in contents)  # fmt: skip
    assert b"InstanceNormalization" not in contents[1]
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
