"""Protobuf as one writer writes it, read without the onnx package.

Parsers differ in what they make of a field that stands twice, of one that they do not know, of numbers that are too
long. So all of this is refused: what is read here is what every parser reads.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

# Wire types of the format.
NUMBER, INNER, FLOAT = 0, 2, 5
# Not of the format: bytes that are a name.
TEXT = -INNER
WORD = re.compile(rb"[A-Za-z0-9_.-]{1,128}")


class Field(NamedTuple):
    """A field that a message may have.

    Attributes:
        name: under which its value is found.
        kind: `NUMBER` (a signed int), `FLOAT`, `TEXT` (a str) or `INNER` (begin and end of its bytes).
        many: whether it may stand any number of times; its value is a list then.
        needed: whether the message must have it, where it may not stand many times.
    """

    name: str
    kind: int
    many: bool = False
    needed: bool = True


Message = Mapping[int, Field]
# A field's number, kind, and what else `Field` takes.
Specification = tuple[int, int, *tuple[bool, ...]]


def message(**fields: Specification) -> Message:
    """What a message may hold, by the names of its fields."""
    return {number << 3 | abs(kind): Field(name, kind, *rest) for name, (number, kind, *rest) in fields.items()}


def read(content: bytes, span: tuple[int, int], known: Message) -> dict[str, Any]:
    """The fields of the message at `content[span[0]:span[1]]`; a field that is not there is None, or no values.

    Raises:
        ValueError: for damage, and for whatever is not `known`.
    """
    found: dict[str, Any] = {field.name: [] if field.many else None for field in known.values()}
    position, end = span
    while position < end:
        tag, position = _varint(content, position, end)
        if tag not in known:
            raise ValueError(f"a field {tag >> 3} of type {tag & 7}")
        name, kind, many, _ = known[tag]
        value: Any
        if kind == NUMBER:
            value, position = _varint(content, position, end)
            value -= (value >> 63) << 64
        elif kind == FLOAT:
            start, position = position, position + 4
            value = struct.unpack_from("<f", content, start)[0] if position <= end else None
        else:
            length, start = _varint(content, position, end)
            position = start + length
            value = _word(content[start:position]) if kind == TEXT else (start, position)
        if position > end:
            raise ValueError("it is cut short")
        if many:
            found[name].append(value)
        elif found[name] is not None:
            raise ValueError(f"two fields {tag >> 3} where one can be")
        else:
            found[name] = value
    for field in known.values():
        if field.needed and found[field.name] is None:
            raise ValueError(f"no {field.name}")
    return found


def _word(content: bytes) -> str:
    if not WORD.fullmatch(content):
        raise ValueError(f"a name of {len(content)} bytes that is none")
    return content.decode()


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    if position >= end:
        raise ValueError("it is cut short")
    value = content[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        position += 1
        if position >= end:
            raise ValueError("it is cut short")
        byte = content[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte or value >= 1 << 64:
                break
            return value, position + 1
    raise ValueError("a number is too long")
