"""What attention is made of: matrices, the shapes of tokens, and sides of values as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from mrs.runtime.onnx_guard.model import FLOAT16, FLOAT32, INT64, Node
from mrs.runtime.onnx_guard.values import Value, check, picture, weight

Rule = Callable[[Sequence[Value], Node], list[Value]]


def _matmul(inputs: Sequence[Value], node: Node) -> list[Value]:
    left, right = inputs
    check(left.type == right.type == FLOAT32 and not (left.fixed and right.fixed))
    # A matrix for all, or one for each.
    shared = right.fixed and len(right.sides) == 2
    check(len(left.sides) == 4 and (shared or len(right.sides) == 4))
    sides = (1, 1, *right.sides) if shared else right.sides
    pairs = list(zip(left.sides[:2], sides[:2], strict=True))
    check(left.sides[3] == sides[2] and all(one == other or 1 in (one, other) for one, other in pairs))
    return [Value(FLOAT32, (*(max(pair) for pair in pairs), left.sides[2], sides[3]))]


def _softmax(inputs: Sequence[Value], node: Node) -> list[Value]:
    return [Value(FLOAT32, picture(inputs[0]))]


def _reshape(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides, wanted = picture(inputs[0]), inputs[1]
    check(wanted.type == INT64 and wanted.sides == (4,) and len(wanted.numbers) == 4)
    # 0 stands for the side that was there, -1 for what is left over.
    made = [side if number == 0 else number for side, number in zip(sides, wanted.numbers, strict=True)]
    check(made.count(-1) <= 1 and all(side > 0 or side == -1 for side in made))
    known = math.prod(side for side in made if side != -1)
    rest, odd = divmod(math.prod(sides), known)
    check(odd == 0 and (rest == 1 or -1 in made))
    return [Value(FLOAT32, tuple(rest if side == -1 else side for side in made))]


def _shape(inputs: Sequence[Value], node: Node) -> list[Value]:
    numbers = picture(inputs[0])[node.attributes.get("start") : node.attributes.get("end")]
    return [Value(INT64, (len(numbers),), numbers=numbers)]


def _cast(inputs: Sequence[Value], node: Node) -> list[Value]:
    # Sides alone, as numbers to compute with; or a matrix that is kept in half precision.
    sides, halved = inputs[0].type == INT64 and not inputs[0].fixed, inputs[0].type == FLOAT16
    check(sides or (halved and len(inputs[0].sides) == 2))
    return [Value(FLOAT32, inputs[0].sides, inputs[0].fixed)]


def _instance_norm(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides = picture(inputs[0])
    check(all(weight(value, 1) == sides[1:2] for value in inputs[1:]))
    return [Value(FLOAT32, sides)]


# Fewest and most inputs, and what becomes of them.
RULES: Mapping[str, tuple[int, int, Rule]] = {
    "Cast": (1, 1, _cast),
    "InstanceNormalization": (3, 3, _instance_norm),
    "MatMul": (2, 2, _matmul),
    "Reshape": (2, 2, _reshape),
    "Shape": (1, 1, _shape),
    "Softmax": (1, 1, _softmax),
}
