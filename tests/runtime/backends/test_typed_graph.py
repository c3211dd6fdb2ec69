"""The typed graph: what has which type, and what that does to the numbers."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mrs.export import quantise as quantisation
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.graph_variant import GATES, NORMS, GraphVariant
from mrs.export.quantise import quantised
from mrs.runtime.backends.torch_graph import program_of, read, weights_of
from mrs.runtime.backends.typed_graph import typed_graph
from mrs.runtime.errors import BackendError
from tests.export.modelopt_double import install
from tests.random_nafnet import nafnet_bytes, random_nafnet
from tests.runtime.backends.tensorrt import reference

pytestmark = pytest.mark.slow(24)

SIZE = (1, 16, 24)
DTYPES = {
    "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.float16, "fp8": torch.float16,
}  # fmt: skip
FORMS = [(norm, gate) for norm in NORMS for gate in GATES]
FLOAT = onnx.TensorProto.FLOAT


@functools.cache
def network(scale: float = 1.0) -> ConditionalNAFNet:
    """Random weights; the residual stream is `scale` times as large as it would be."""
    net = random_nafnet(NAFNet(8, (1, 1), 1, (1, 1)), contrast=None)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            # All that is added to it, but not what makes it smaller or wider.
            if name.startswith("intro") or name.endswith(("beta", "gamma")):
                parameter.mul_(scale)
        net.ending.weight.div_(scale)
    return net


@functools.cache
def graph(norm: str = "layernorm", gate: str = "split", scale: float = 1.0) -> bytes:
    return nafnet_bytes(network(scale), GraphVariant(norm, gate))


def typed(precision: str, *form: Any) -> onnx.ModelProto:
    return onnx.load_from_string(typed_graph(graph(*form), precision, SIZE))


def inputs() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    packed = np.random.default_rng(0).standard_normal((SIZE[0], 6, *SIZE[1:]), np.float32)
    return packed, modulation_table(network(), [40.0])[:, :, None, None]


def run(model: onnx.ModelProto, precision: str, look: Any = None) -> np.ndarray[Any, Any]:
    packed, vectors = (torch.from_numpy(each) for each in inputs())
    with torch.no_grad():
        return (
            reference.evaluate(reference.Program.of(model), packed.to(DTYPES[precision]), vectors, look).float().numpy()
        )


@functools.cache
def exact(*form: Any) -> np.ndarray[Any, Any]:
    """In float32 by torch's backend."""
    packed, vectors = (torch.from_numpy(each) for each in inputs())
    structure, arrays = read(graph(*form))
    with torch.no_grad():
        weights = weights_of(structure, arrays, torch.float32, "cpu")
        return program_of(structure, compiled=False)(packed, vectors, weights).numpy()


def error(made: np.ndarray[Any, Any], *form: Any) -> float:
    return float(np.abs(made - exact(*form)).max() / np.abs(exact(*form)).max())


# Types


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The type of every value, as ONNX infers it strictly."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    named = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**named, **{tensor.name: tensor.data_type for tensor in inferred.graph.initializer}}


@pytest.mark.parametrize("form", FORMS, ids="-".join)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_is_computed_in_which_type(form: tuple[str, str], precision: str) -> None:
    model = typed(precision, *form)
    onnx.checker.check_model(model, full_check=True)
    types, half = types_of(model), {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    wanted = {
        "Conv": half, "LayerNormalization": FLOAT, "ReduceMean": FLOAT, "ReduceL2": FLOAT, "Sqrt": FLOAT, "Div": FLOAT,
        "GlobalAveragePool": FLOAT,
    }  # fmt: skip
    for node in model.graph.node:
        if node.op_type in wanted:
            # One norm has its means from convolutions.
            mean = node.op_type == "Conv" and node.input[1].startswith("mean.")
            kind = FLOAT if mean else wanted[node.op_type]
            assert types[node.input[0]] == types[node.output[0]] == kind, node.name
    assert [types[name] for name in ("packed", "modulation", "output")] == [half, FLOAT, half]
    # The modulation by time takes part in float32.
    vectors = {name for node in model.graph.node if node.input[0] == "modulation" for name in node.output}
    readers = [node for node in model.graph.node if vectors & set(node.input)]
    assert readers
    assert all(types[name] == FLOAT for node in readers for name in node.input)


def test_the_residual_stream_has_the_precision_of_the_convolutions() -> None:
    model = typed("fp16")
    types, made = types_of(model), {name: node.op_type for node in model.graph.node for name in node.output}
    sums = [node for node in model.graph.node if node.op_type == "Add" and made[node.input[1]] == "Conv"]
    assert len(sums) == 10
    assert {types[node.output[0]] for node in sums} == {onnx.TensorProto.FLOAT16}


def test_float32_has_no_casts_and_the_same_weights() -> None:
    model, plain = typed("fp32"), onnx.load_from_string(graph())
    assert list(model.graph.node) == list(plain.graph.node)
    assert list(model.graph.initializer) == list(plain.graph.initializer)


def test_a_value_is_cast_once_for_all_that_read_it() -> None:
    casts = [(node.input[0], node.attribute[0].i) for node in typed("fp16").graph.node if node.op_type == "Cast"]
    assert casts
    assert len(set(casts)) == len(casts)


@pytest.mark.parametrize(
    ("sides", "shape"), [((2, 16, 24), [2, 6, 16, 24]), ((None, None, None), ["batch", 6, "height", "width"])], ids=str
)
def test_sides_that_are_fixed_and_not(sides: Any, shape: list[Any]) -> None:
    model = onnx.load_from_string(typed_graph(graph(), "fp16", sides))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in dims] == shape
    sides = [side.dim_param or side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim]
    assert sides == [shape[0], 3, *shape[2:]]


# Numbers


@pytest.mark.parametrize("form", FORMS, ids="-".join)
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-6), ("fp16", 2e-3), ("bf16", 2e-2)])
def test_as_in_float32(form: tuple[str, str], precision: str, bound: float) -> None:
    assert error(run(typed(precision, *form), precision), *form) < bound


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_as_onnx_runtime_has_it(form: tuple[str, str]) -> None:
    session = onnxruntime.InferenceSession(typed("fp16", *form).SerializeToString(), providers=["CPUExecutionProvider"])
    packed, vectors = inputs()
    (made,) = session.run(None, {"packed": packed.astype(np.float16), "modulation": vectors})
    assert error(made.astype(np.float32), *form) < 2e-3


@pytest.mark.parametrize("form", FORMS, ids="-".join)
@pytest.mark.parametrize(("precision", "bound"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_residuals_of_hundreds(form: tuple[str, str], precision: str, bound: float) -> None:
    largest: list[float] = []

    def look(node: onnx.NodeProto, made: torch.Tensor) -> None:
        if node.op_type == "Add" and made.dtype == DTYPES[precision]:
            largest.append(float(made.abs().max()))

    made = run(typed(precision, *form, 60.0), precision, look)
    residual = max(largest)
    # Squares of it are beyond float16.
    assert 300 < residual < 5000
    assert residual**2 > 65504
    assert np.isfinite(made).all()
    assert error(made, *form, 60.0) < bound


def test_statistics_in_float16_would_overflow() -> None:
    # What the casts are for: the same residuals, squared in half precision.
    values = []
    run(typed("fp16", "moments", "split", 60.0), "fp16", lambda node, made: values.append((node.op_type, made)))
    centred = [made for kind, made in values if kind == "Sub"]
    assert all(made.dtype == torch.float32 for made in centred)
    assert any(torch.isinf((made.half() * made.half()).max()) for made in centred)


# Quantised graphs


QUANTISED = {"int8": onnx.TensorProto.INT8, "fp8": onnx.TensorProto.FLOAT8E4M3FN}
TENSORRT = [("layernorm", "split"), ("layernorm", "weights")]


@functools.cache
def quantised_graph(precision: str, *form: Any) -> bytes:
    """As ModelOpt's double makes it of the inputs here."""
    packed, vectors = inputs()
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        patch.setattr(logging.root, "disabled", True)
        patch.setattr(quantisation, "LEAST", 1)
        return quantised(graph(*form), precision, [{"packed": packed, "modulation": vectors}])


@pytest.mark.parametrize("form", TENSORRT, ids="-".join)
@pytest.mark.parametrize("precision", QUANTISED)
def test_what_is_quantised_has_its_type_and_the_rest_float16(form: tuple[str, str], precision: str) -> None:
    model = onnx.load_from_string(typed_graph(quantised_graph(precision, *form), precision, SIZE))
    onnx.checker.check_model(model, full_check=True)
    types, half = types_of(model), onnx.TensorProto.FLOAT16
    assert [types[name] for name in ("packed", "modulation", "output")] == [half, FLOAT, half]
    by_output = {name: node for node in model.graph.node for name in node.output}
    fed = 0
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert [types[name] for name in (*node.input, *node.output)] == [half, half, *2 * [QUANTISED[precision]]]
        elif node.op_type == "DequantizeLinear":
            zero = QUANTISED[precision]
            assert [types[name] for name in (*node.input, *node.output)] == [zero, half, zero, half]
        elif node.op_type == "Conv":
            assert {types[name] for name in (*node.input, *node.output)} == {half}
            # Nothing stands in between, so that an engine can take them together.
            before = [by_output[name].op_type for name in node.input[:2] if name in by_output]
            fed += before == 2 * ["DequantizeLinear"]
        elif node.op_type == "LayerNormalization":
            assert types[node.input[0]] == FLOAT
    assert fed == 5 * (4 if form[1] == "split" else 6) + 2


@pytest.mark.parametrize("form", TENSORRT, ids="-".join)
@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.1), ("fp8", 0.2)])
def test_quantised_as_in_float32_but_for_its_steps(form: tuple[str, str], precision: str, bound: float) -> None:
    model = onnx.load_from_string(typed_graph(quantised_graph(precision, *form), precision, SIZE))
    made = run(model, precision)
    # It is not float16 in disguise.
    assert 2 * error(run(typed("fp16", *form), "fp16"), *form) < error(made, *form) < bound


def test_a_scale_below_float16() -> None:
    model = onnx.load_from_string(quantised_graph("int8"))
    scale = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("conv5.weight_scale"))
    values = onnx.numpy_helper.to_array(scale).copy()
    values[0] = 1e-9
    scale.CopyFrom(onnx.numpy_helper.from_array(values, scale.name))
    typed_scales = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(typed_graph(model.SerializeToString(), "int8", SIZE)).graph.initializer
    }
    # TensorRT takes none that is not positive.
    assert typed_scales[scale.name][0] == 2.0**-24
    np.testing.assert_allclose(typed_scales[scale.name][1:], values[1:], rtol=1e-3)


@pytest.mark.parametrize(
    ("of", "precision"),
    [("", "int8"), ("", "fp8"), ("int8", "fp8"), ("fp8", "int8"), ("int8", "bf16"), ("fp8", "fp32")],
)
def test_a_graph_for_another_precision(of: str, precision: str) -> None:
    content = quantised_graph(of) if of else graph()
    with pytest.raises(BackendError, match=f"the graph is not one for {precision}"):
        typed_graph(content, precision, SIZE)


# Graphs that are refused


def test_a_weight_beyond_float16() -> None:
    model = onnx.load_from_string(graph())
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "intro.weight")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = 1e5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "intro.weight"))
    with pytest.raises(BackendError, match=r"intro.weight is too large for float16 \(use precision bf16 or fp32\)"):
        typed_graph(model.SerializeToString(), "fp16", SIZE)
    assert typed_graph(model.SerializeToString(), "bf16", SIZE)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: b"", "the graph is empty"),
        (lambda content: content[: len(content) // 2], "the graph cannot be read"),
        (lambda content: content.replace(b"GlobalAveragePool", b"GlobalAveragePoop"), "operation GlobalAveragePoop"),
    ],
    ids=["empty", "half", "unknown operation"],
)
def test_a_graph_that_is_not_ours(spoil: Any, says: str) -> None:
    with pytest.raises(BackendError, match=says) as caught:
        typed_graph(spoil(graph()), "fp16", SIZE)
    assert "\n" not in str(caught.value)
