"""The typed graphs of published networks: what has which type, and that nothing is lost or beyond half precision."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mrs.runtime.backends.half_precision import SPREAD
from mrs.runtime.backends.typed_graph import CONVOLUTIONS, FLOAT32, MOVES, QUANTISING, WIDER, typed_graph
from mrs.runtime.onnx_guard.operators import ATTRIBUTES
from tests.golden.networks import TOLERANCE
from tests.runtime.backends.published import BOUNDS, NAMES, UNETS, case, graph
from tests.runtime.backends.tensorrt import reference

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(60)]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
HALVES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
FLOAT, WHOLE = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
# Of an encoder, which runs on a CPU.
ENCODERS = {"Pad", "Slice"}


def typed(name: str, precision: str, which: int = 1) -> onnx.ModelProto:
    """Shared by all tests: they only look at it."""
    return program(name, precision, which).model


def program(name: str, precision: str, which: int) -> reference.Program:
    count, _, *sides = case(name, which).packed.shape
    return made_once(graph(name), precision, (count, *sides))


@functools.cache
def made_once(content: bytes, precision: str, sides: tuple[int, ...]) -> reference.Program:
    return reference.Program.of(onnx.load_from_string(typed_graph(content, precision, sides)))


def run(name: str, precision: str, which: int, step: int, look: Any = None) -> Any:
    given = case(name, which)
    context = None if given.context is None else torch.from_numpy(given.context)
    row = torch.from_numpy(given.modulation[step : step + 1, :, None, None].copy())
    packed = torch.from_numpy(given.packed).to(DTYPES[precision])
    with torch.no_grad():
        return reference.evaluate(program(name, precision, which), packed, row, look, context).float().numpy()


# Numbers


@pytest.mark.parametrize("name", NAMES)
def test_published_outputs(name: str) -> None:
    for step, wanted in enumerate(case(name).outputs):
        height, width = wanted.shape[2:]
        found = run(name, "fp32", 1, step)[..., :height, :width]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_near_the_published_outputs(name: str, precision: str) -> None:
    for step in range(len(case(name).outputs)):
        assert BOUNDS["fp32"] < case(name).error(run(name, precision, 1, step), step) < BOUNDS[precision]


@pytest.mark.parametrize("name", UNETS)
def test_as_onnx_runtime_has_it(name: str) -> None:
    model, given = typed(name, "fp16").SerializeToString(), case(name)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {"packed": given.packed.astype(np.float16), "modulation": given.modulation[:1, :, None, None]}
    feed |= {} if given.context is None else {"context": given.context}
    (made,) = session.run(None, feed)
    assert given.error(made.astype(np.float32), 0) < BOUNDS["fp16"]


def test_a_mean_over_all_pixels_is_nowhere_beyond_float16() -> None:
    """What a distribution weighs is spread before it is rounded, and as large as before after it."""
    values: dict[str, Any] = {}
    run("irsde_unet_d2", "fp16", 1, 0, lambda node, made: values.setdefault(node.name, (node, made)))
    spread = [(node, made) for node, made in values.values() if node.name.endswith(".spread")]
    assert len(spread) == 5
    for node, made in spread:
        weights = values[node.input[0]][1]
        assert made.dtype == weights.dtype == torch.float32
        torch.testing.assert_close(made, SPREAD * weights)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_residuals_of_hundreds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Squares of them are beyond float16, and so would be the sums of a norm over groups or a softmax."""
    model = onnx.load_from_string(graph("daclip_unet_full"))
    for tensor in model.graph.initializer:
        if tensor.name == "init_conv.weight":
            tensor.CopyFrom(onnx.numpy_helper.from_array(300 * onnx.numpy_helper.to_array(tensor), tensor.name))
    large = model.SerializeToString()
    monkeypatch.setattr("tests.runtime.backends.test_published_typed.graph", lambda name: large)
    residuals: list[float] = []

    def look(node: onnx.NodeProto, made: torch.Tensor) -> None:
        if node.op_type == "Add" and made.dtype == torch.float16:
            residuals.append(float(made.abs().max()))

    exact, found = run("daclip_unet_full", "fp32", 1, 0), run("daclip_unet_full", "fp16", 1, 0, look)
    assert 300 < max(residuals) < 60000
    assert max(residuals) ** 2 > 65504
    assert np.isfinite(found).all()
    assert np.abs(found - exact).max() < BOUNDS["fp16"] * np.abs(exact).max()


# Types


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The type of every value, as ONNX infers it strictly."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    named = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**named, **{tensor.name: tensor.data_type for tensor in inferred.graph.initializer}}


def test_whatever_a_plan_may_hold_is_known() -> None:
    known = CONVOLUTIONS | FLOAT32 | MOVES | QUANTISING | WIDER | {"MatMul", "Shape", "Softmax"}
    assert ATTRIBUTES.keys() - ENCODERS == known
    # And to what is computed in its place on a CPU.
    assert known | {"Pad", "Slice"} == reference.OPERATIONS.keys()


@pytest.mark.parametrize("sides", [None, (None, None, None)], ids=["fixed", "open"])
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", UNETS)
def test_a_typed_graph_is_one_to_every_checker(name: str, precision: str, sides: Any) -> None:
    if sides is None:
        model = typed(name, precision)
    else:
        model = onnx.load_from_string(typed_graph(graph(name), precision, sides))
    onnx.checker.check_model(model, full_check=True)
    types_of(model)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("name", UNETS)
def test_what_is_computed_in_which_type(name: str, precision: str) -> None:
    model = typed(name, precision)
    types, half = types_of(model), HALVES[precision]
    makers = {output: node for node in model.graph.node for output in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}
    attentions = 0
    for node in model.graph.node:
        given, made = (types[name] for name in (node.input[0], node.output[0]))
        if node.op_type in ("LayerNormalization", "InstanceNormalization", "Sigmoid", "Erf"):
            assert given == made == FLOAT, node.name
        elif node.op_type == "ConvTranspose" or (node.op_type == "Conv" and "mlps.weight" not in node.input):
            assert {types[name] for name in (*node.input, *node.output)} == {half}, node.name
        elif node.op_type == "Softmax":
            product = makers[node.input[0]]
            attends = product.op_type == "MatMul"
            attentions += attends
            # The pattern of one attention: three nodes with nothing between them, of one type.
            assert given == made == (half if attends else FLOAT), node.name
            if attends:
                after = readers[node.output[0]]
                assert after.op_type == "MatMul"
                assert {types[name] for each in (product, after) for name in each.input} == {half}
    assert attentions == {"daclip_unet_full": 3, "daclip_unet_wild": 3, "unet_denoising": 1}.get(name, 0)


@pytest.mark.parametrize("precision", HALVES)
def test_pictures_that_are_kept_have_half_precision(precision: str) -> None:
    """Skips and residuals are read by convolutions, without a cast in between."""
    model = typed("daclip_unet_full", precision)
    makers = {output: node for node in model.graph.node for output in node.output}
    # A block's own activation is computed in float32, and so wherever a sum was.
    sources = [makers[makers[node.input[0]].input[0]].op_type for node in model.graph.node
               if node.op_type == "Conv" and makers.get(node.input[0], node).op_type == "Cast"]  # fmt: skip
    assert set(sources) <= {"Mul", "Add"}
    narrowed = [node for node in model.graph.node if node.name.endswith(".narrow")]
    assert {makers[node.input[0]].op_type for node in narrowed} == {"Add"}
    # One for each block and each attention, and what transformers are told.
    assert len(narrowed) > 20


def test_what_depends_on_time_alone_is_float32() -> None:
    model = typed("daclip_unet_full", "fp16")
    types, vectors = types_of(model), {"modulation", "context"}
    for node in model.graph.node:
        computed = [name for name in node.input if name not in {each.name for each in model.graph.initializer}]
        if computed and vectors.issuperset(computed):
            vectors.update(node.output)
            assert {types[name] for name in (*node.input, *node.output)} <= {FLOAT, WHOLE}, node.name
    assert len(vectors) > 40


def test_sums_over_all_pixels_are_float32_of_rounded_terms() -> None:
    """A pattern of TensorRT's: what is cast to float32 before a product is multiplied as it was and summed so."""
    model = typed("irsde_unet_d4", "fp16")
    types, makers = types_of(model), {output: node for node in model.graph.node for output in node.output}
    sums = [node for node in model.graph.node if node.op_type == "MatMul" and node.output[0].endswith(".wide")]
    assert len(sums) == 9
    for node in sums:
        for name in node.input:
            assert makers[name].op_type == "Cast"
            assert (types[makers[name].input[0]], types[name]) == (onnx.TensorProto.FLOAT16, FLOAT)
