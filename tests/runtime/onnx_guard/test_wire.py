"""Bytes of which parsers make different things are refused; what passes, every parser reads alike."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto

from mrs.runtime.errors import PlanError
from mrs.runtime.onnx_guard import check_network
from mrs.runtime.onnx_guard.model import ATTRIBUTE_TYPES, read_model
from tests.runtime.networks import raw, refused, smallest


def test_fields_that_stand_twice() -> None:
    """Parsers merge two graphs, and take the last of two numbers."""
    content = smallest().SerializeToString()
    for again, match in ((content, "two fields 1 "), (b"\x12\x01x", "two fields 2 "), (b"\x3a\x00", "two fields 7 ")):
        assert len(onnx.load_from_string(content + again).graph.node) >= 3
        refused(content + again, match)


def test_a_field_that_nobody_knows() -> None:
    content = smallest().SerializeToString()
    for more in (b"\xfa\x01\x01x", b"\x7a\x00", b"\x58\x01"):
        onnx.load_from_string(content + more)
        refused(content + more, "a field")


def test_a_field_of_another_type() -> None:
    """Sides of a weight in one run of bytes, which parsers take as well."""
    tensor = raw(smallest(), "w")
    packed = b"\x0a\x04\x03\x06\x01\x01" + tensor.SerializeToString()[8:]
    assert TensorProto.FromString(packed) == tensor
    content = smallest().SerializeToString()
    refused(content.replace(tensor.SerializeToString()[:8], packed[:6] + b"\x10\x01", 1), "")


@pytest.mark.parametrize("padding", [0x10, 0x70], ids=hex)
def test_a_tag_with_bits_that_parsers_drop(padding: int) -> None:
    # Field 7, length-delimited, in five bytes, of which the last carries bits above the 32nd.
    tag = bytes([7 << 3 | 2 | 0x80, 0x80, 0x80, 0x80, padding])
    refused(smallest().SerializeToString() + tag + b"\x00", "a field")


def test_a_number_that_is_longer_than_it_needs_to_be() -> None:
    refused(b"\x08\x89\x00" + smallest().SerializeToString()[2:], "a number is too long")
    refused(b"\x08" + b"\xff" * 9 + b"\x02" + smallest().SerializeToString()[2:], "a number is too long")


def test_a_file_that_begins_with_something_else() -> None:
    """Engines tell a file's format by its first bytes."""
    content = smallest().SerializeToString()
    assert onnx.load_from_string(content[2:] + content[:2]) == smallest()
    refused(content[2:] + content[:2], "it does not begin with its version")


@pytest.mark.parametrize(
    "content", [b"", b"\x08\x09", b"no model", b"<net/>", b"\xff" * 20, b"\x3a\xff\xff\xff\xff\x7f", b"\x80", b"\x3a"],
    ids=repr,
)  # fmt: skip
def test_what_is_no_model(content: bytes) -> None:
    refused(content, "")


def test_a_model_that_is_cut() -> None:
    content = smallest().SerializeToString()
    for length in range(len(content)):
        refused(content[:length], "")


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(content: bytes) -> None:
    for begin in (b"", b"\x08\x09\x12\x01a\x42\x04\x0a\x00\x10\x12\x3a"):
        refused(begin + content, "")


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_what_passes_is_read_as_parsers_read_it(at: int, flip: int, whole: bool) -> None:
    """A changed byte anywhere: refused, or the same nodes, weights and sides for a full parser."""
    content = bytearray(smallest().SerializeToString())
    content[at % len(content)] = flip if whole else content[at % len(content)] ^ flip
    try:
        check_network(bytes(content), "plan")
    except PlanError as error:
        assert "\n" not in str(error)  # noqa: PT017 (most are refused, and some are not)
        return
    read, parsed = read_model(bytes(content)), onnx.load_from_string(bytes(content))
    onnx.checker.check_model(parsed, full_check=True)
    assert (read.ir_version, read.opset) == (parsed.ir_version, parsed.opset_import[0].version)
    assert [tuple(node) for node in read.nodes] == [
        (
            node.op_type, list(node.input), list(node.output),
            {each.name: plain(each) for each in node.attribute},
        )
        for node in parsed.graph.node
    ]  # fmt: skip
    assert {
        name: (each.type, each.dims, bytes(content[each.begin : each.end])) for name, each in read.weights.items()
    } == {tensor.name: (tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in parsed.graph.initializer}
    assert [tuple(port) for port in (*read.inputs, *read.outputs)] == [
        (
            value.name, value.type.tensor_type.elem_type,
            tuple(side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim),
        )
        for value in (*parsed.graph.input, *parsed.graph.output)
    ]  # fmt: skip


def plain(given: AttributeProto) -> Any:
    value = getattr(given, ATTRIBUTE_TYPES[given.type])
    return value.decode() if isinstance(value, bytes) else tuple(value) if given.type == AttributeProto.INTS else value
