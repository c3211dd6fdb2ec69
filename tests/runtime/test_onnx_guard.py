"""Models that reach outside their own bytes are refused, wherever they hide it, and by PlanError alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mrs.runtime.errors import PlanError
from mrs.runtime.onnx_guard import check_self_contained


def weights(name: str = "w") -> TensorProto:
    return numpy_helper.from_array(np.ones(4, np.float32), name)


def external(name: str = "w") -> TensorProto:
    tensor = weights(name)
    onnx.external_data_helper.set_external_data(tensor, "../../secret")
    tensor.ClearField("raw_data")
    return tensor


def model(nodes: list[onnx.NodeProto] | None = None, initializers: list[TensorProto] | None = None) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], initializers or [weights()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def branch() -> onnx.NodeProto:
    inside = helper.make_graph([constant(weights())], "inside", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=inside, else_branch=inside)


def with_graphs() -> onnx.ModelProto:
    node = helper.make_node("Custom", ["x"], ["y"])
    node.attribute.append(onnx.AttributeProto(name="graphs", graphs=[onnx.GraphProto(name="inside")]))
    return model([node])


def with_tensors() -> onnx.ModelProto:
    node = helper.make_node("Custom", ["x"], ["y"])
    node.attribute.append(onnx.AttributeProto(name="tensors", tensors=[weights(), external()]))
    return model([node])


def with_sparse(repeated: bool) -> onnx.ModelProto:
    sparse = onnx.SparseTensorProto(values=external(), dims=[4])
    node = helper.make_node("Custom", ["x"], ["y"])
    fields = {"sparse_tensors": [sparse]} if repeated else {"sparse_tensor": sparse}
    node.attribute.append(onnx.AttributeProto(name="sparse", **fields))
    return model([node])


def with_sparse_initializer() -> onnx.ModelProto:
    made = model()
    made.graph.sparse_initializer.append(onnx.SparseTensorProto(values=external(), dims=[4]))
    return made


def with_function() -> onnx.ModelProto:
    made = model()
    made.functions.append(helper.make_function("here", "F", [], ["c"], [constant(external())], []))
    return made


def with_training() -> onnx.ModelProto:
    made = model()
    made.training_info.append(onnx.TrainingInfoProto(algorithm=model(initializers=[external()]).graph))
    return made


def with_location_only() -> onnx.ModelProto:
    tensor = weights()
    tensor.data_location = TensorProto.EXTERNAL
    return model(initializers=[tensor])


def test_a_model_of_its_own_bytes_passes() -> None:
    nodes = [constant(weights("c")), helper.make_node("Add", ["x", "c"], ["y"])]
    check_self_contained(model(nodes).SerializeToString(), "model")


def test_a_network_of_ours_passes(tiny) -> None:
    check_self_contained(tiny.graph, "model")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: model(initializers=[weights("a"), external()]), "weights in other files"),
        (with_location_only, "weights in other files"),
        (lambda: model([constant(external())]), "weights in other files"),
        (with_tensors, "weights in other files"),
        (lambda: model([branch()]), "subgraphs"),
        (with_graphs, "subgraphs"),
        (lambda: with_sparse(False), "subgraphs"),
        (lambda: with_sparse(True), "subgraphs"),
        (with_sparse_initializer, "sparse weights"),
        (with_function, "functions"),
        (with_training, "functions"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_could_reach_outside_is_refused(make: Callable[[], onnx.ModelProto], what: str) -> None:
    with pytest.raises(PlanError, match=what) as caught:
        check_self_contained(make().SerializeToString(), "plan p")
    assert caught.value.message.startswith("plan p: its network ")
    assert "readable" not in caught.value.message


def test_a_second_graph_is_looked_at_too() -> None:
    # Parsers merge the occurrences of one field.
    both = model().SerializeToString() + model(initializers=[external()]).SerializeToString()
    assert onnx.load_from_string(both).graph.initializer[1].external_data
    with pytest.raises(PlanError, match="other files"):
        check_self_contained(both, "plan")


@pytest.mark.parametrize("padding", [0x10, 0x70], ids=hex)
def test_a_tag_with_bits_that_parsers_drop_is_refused(padding: int) -> None:
    content = model(initializers=[external()]).graph.SerializeToString()
    # Field 7, length-delimited, in five bytes, of which the last carries bits above the 32nd.
    tag = bytes([7 << 3 | 2 | 0x80, 0x80, 0x80, 0x80, padding])
    size = bytes([len(content) & 0x7F | 0x80, len(content) >> 7])
    with pytest.raises(PlanError, match="no readable ONNX model: field"):
        check_self_contained(model().SerializeToString() + tag + size + content, "plan")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x09",
        b"not a model",
        b"<net/>",
        b"\xff" * 20,
        b"\x3a\xff\xff\xff\xff\x7f",
        b"\x3b\x3c",
        b"\x80",
        b"\x3a",
    ],
    ids=repr,
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(PlanError, match="no readable ONNX model"):
        check_self_contained(content, "plan")


def test_a_model_that_is_cut_inside_its_graph_is_refused() -> None:
    content = model().SerializeToString()
    end = content.index(b"w", content.index(b"Add") + 8)
    for length in range(end):
        with pytest.raises(PlanError):
            check_self_contained(content[:length], "plan")


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(content: bytes) -> None:
    try:
        check_self_contained(b"\x3a\x00" + content, "plan")
    except PlanError as error:
        assert "\n" not in str(error)  # noqa: PT017 (most bytes are refused, and some are not)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_never_hides_external_data(at: int, flip: int) -> None:
    content = bytearray(model(initializers=[external()]).SerializeToString())
    content[at % len(content)] ^= flip
    try:
        check_self_contained(bytes(content), "plan")
    except PlanError:
        return
    # What the walk lets pass has no external data for a full parser either, or is no model for it.
    try:
        parsed = onnx.load_from_string(bytes(content))
    except Exception:  # noqa: BLE001 (protobuf raises its own types)
        return
    assert not any(tensor.external_data or tensor.data_location for tensor in parsed.graph.initializer)
