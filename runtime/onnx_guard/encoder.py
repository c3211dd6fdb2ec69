"""What a conditioner's encoder has besides attention: patches of a picture, and a token before the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mrs.runtime.onnx_guard.model import FLOAT32, INT64, Node
from mrs.runtime.onnx_guard.tokens import Rule
from mrs.runtime.onnx_guard.values import Value, check, picture

# Sides of the squares that vision transformers cut a picture into.
PATCHES = (8, 14, 16, 32)
# Tokens are counted: sides that a graph leaves open are larger.
MOST_TOKENS = 1 << 31
# A row before the others of (N, 1, tokens, width); of these the first.
PADDED, FIRST = ((0, 0, 1, 0, 0, 0, 0, 0),), ((0,), (1,), (2,))


def _pad(inputs: Sequence[Value], node: Node) -> list[Value]:
    *outer, tokens, width = picture(inputs[0])
    check(_numbers(inputs[1:]) == PADDED and tokens < MOST_TOKENS)
    return [Value(FLOAT32, (*outer, tokens + 1, width))]


def _slice(inputs: Sequence[Value], node: Node) -> list[Value]:
    *outer, _, width = picture(inputs[0])
    check(_numbers(inputs[1:]) == FIRST)
    return [Value(FLOAT32, (*outer, 1, width))]


def _numbers(values: Sequence[Value]) -> tuple[tuple[int, ...], ...]:
    """Of vectors of whole numbers that are not computed."""
    check(all(value.type == INT64 and value.fixed and value.sides == (len(value.numbers),) for value in values))
    return tuple(value.numbers for value in values)


# Fewest and most inputs, and what becomes of them.
RULES: Mapping[str, tuple[int, int, Rule]] = {"Pad": (2, 2, _pad), "Slice": (4, 4, _slice)}
