"""What a node of a plan's network may be, and the shapes that it makes of shapes.

Engines are native code that trusts a graph in much: an index out of bounds, a division of whole numbers, a shape that
does not fit can end the process. So only what `mrs.export` emits is allowed, with the attributes that it gives, on
shapes that fit. A test removes every entry here and finds a graph of ours that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mrs.runtime.onnx_guard.model import FLOAT8, FLOAT32, INT8, Node

Sides = tuple[int, ...]
# Operator, attribute, and the values that it may have; None where it may be absent. Of `group` see `_conv`.
ATTRIBUTES: dict[str, dict[str, tuple[object, ...]]] = {
    "Add": {},
    "Conv": {
        "group": (),
        "kernel_shape": ((1, 1), (2, 2), (3, 3)),
        "pads": ((0, 0, 0, 0), (1, 1, 1, 1)),
        "strides": ((1, 1), (2, 2)),
    },
    "DepthToSpace": {"blocksize": (2,), "mode": ("CRD",)},
    "DequantizeLinear": {"axis": (None, 0)},
    "Div": {},
    "GlobalAveragePool": {},
    "LayerNormalization": {"axis": (-1,), "epsilon": (float(np.float32(1e-5)),)},
    "Max": {},
    "Mul": {},
    "QuantizeLinear": {"axis": (None, 0)},
    "ReduceL2": {"keepdims": (1,)},
    "ReduceMean": {"keepdims": (1,)},
    "Split": {"axis": (1,)},
    "Sqrt": {},
    "Sub": {},
    "Transpose": {"perm": ((0, 2, 3, 1), (0, 3, 1, 2))},
}
# Side of a convolution's kernel, zeros around its input, stride.
GEOMETRIES = ((1, 0, 1), (2, 0, 2), (3, 1, 1))
# Of these a graph must have no long chains (see `graph.RUN`).
ELEMENTWISE = frozenset({"Add", "Div", "Max", "Mul", "Sqrt", "Sub"})
QUANTISING = frozenset({"DequantizeLinear", "QuantizeLinear"})


class Value(NamedTuple):
    """What is known of a value.

    Attributes:
        type: of its elements.
        sides: those that a graph leaves open as `graph.OPEN` has them.
        fixed: whether it is a weight, or made of weights alone.
        numbers: its elements, where it is a weight of whole numbers.
    """

    type: int
    sides: Sides
    fixed: bool = False
    numbers: tuple[int, ...] = ()


def outputs_of(node: Node, inputs: Sequence[Value]) -> list[Value]:
    """What a node makes of its inputs.

    Raises:
        ValueError: for an operator, an attribute, or inputs that are none of ours.
    """
    allowed = ATTRIBUTES.get(node.operator)
    if allowed is None:
        raise ValueError("an operator of no plan")
    if not node.attributes.keys() <= allowed.keys():
        raise ValueError(f"attributes {', '.join(sorted(node.attributes))}")
    for name, values in allowed.items():
        if node.attributes.get(name) not in values and name != "group":
            raise ValueError(f"attribute {name} {node.attributes.get(name)}")
    least, most, rule = RULES[node.operator]
    if not least <= len(inputs) <= most:
        raise ValueError(f"{len(inputs)} inputs")
    made = rule(inputs, node)
    if len(made) != len(node.outputs):
        raise ValueError(f"{len(node.outputs)} outputs")
    return made


def _check(fits: bool, what: str = "inputs that do not fit") -> None:
    if not fits:
        raise ValueError(what)


def _picture(value: Value) -> Sides:
    """The sides of a float32 value that is computed: four of them."""
    _check(value.type == FLOAT32 and not value.fixed and len(value.sides) == 4)
    return value.sides


def _weight(value: Value, rank: int) -> Sides:
    """The sides of a float32 value that is not computed."""
    _check(value.type == FLOAT32 and value.fixed and len(value.sides) == rank)
    return value.sides


def _elementwise(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides = _picture(inputs[0])
    for value in inputs[1:]:
        number = value.fixed and value.sides == ()
        _check(value.type == FLOAT32 and (number or len(value.sides) == 4))
        pairs = list(zip(sides, (1,) * 4 if number else value.sides, strict=True))
        _check(all(one == other or 1 in (one, other) for one, other in pairs))
        sides = tuple(max(pair) for pair in pairs)
    return [Value(FLOAT32, sides)]


def _conv(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, channels, *sides = _picture(inputs[0])
    made, each, *kernel = _weight(inputs[1], 4)
    if len(inputs) == 3:
        _check(_weight(inputs[2], 1) == (made,))
    group = node.attributes.get("group")
    # All channels at once, or each by itself.
    _check((group == 1 and each == channels) or (group == made == channels and each == 1), f"group {group}")
    (side, _), pads, strides = (node.attributes[name] for name in ("kernel_shape", "pads", "strides"))
    _check((side, pads[0], strides[0]) in GEOMETRIES and kernel == [side, side])
    # A stride of two halves what is even.
    _check(strides[0] == 1 or not any(one % 2 for one in sides))
    return [Value(FLOAT32, (count, made, *(one // strides[0] for one in sides)))]


def _pool(inputs: Sequence[Value], node: Node) -> list[Value]:
    return [Value(FLOAT32, (*_picture(inputs[0])[:2], 1, 1))]


def _reduce(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, _, *sides = _picture(inputs[0])
    _check(inputs[1].sides == (1,) and inputs[1].numbers == (1,), "another axis than the channels")
    return [Value(FLOAT32, (count, 1, *sides))]


def _layer_norm(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides = _picture(inputs[0])
    _check(_weight(inputs[1], 1) == sides[3:])
    return [Value(FLOAT32, sides)]


def _transpose(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides = _picture(inputs[0])
    return [Value(FLOAT32, tuple(sides[axis] for axis in node.attributes["perm"]))]


def _split(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, channels, *sides = _picture(inputs[0])
    parts = inputs[1].numbers
    _check(inputs[1].sides == (len(parts),) and min(parts, default=0) > 0 and sum(parts) == channels)
    return [Value(FLOAT32, (count, part, *sides)) for part in parts]


def _depth_to_space(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, channels, *sides = _picture(inputs[0])
    # A mean has a side of one and is not spread.
    _check(channels % 4 == 0 and 1 not in sides)
    return [Value(FLOAT32, (count, channels // 4, *(2 * side for side in sides)))]


def _quantise(inputs: Sequence[Value], node: Node) -> list[Value]:
    value, scale, zero = inputs
    rank = 0 if node.attributes.get("axis") is None else 1
    _check(_weight(scale, rank) == value.sides[:rank] and zero.fixed and zero.sides == scale.sides)
    _check(zero.type in (INT8, FLOAT8) and len(value.sides) == 4)
    into = node.operator == "QuantizeLinear"
    before, after = (FLOAT32, zero.type) if into else (zero.type, FLOAT32)
    _check(value.type == before)
    return [Value(after, value.sides, value.fixed)]


Rule = Callable[[Sequence[Value], Node], list[Value]]
# Fewest and most inputs, and what becomes of them.
RULES: Mapping[str, tuple[int, int, Rule]] = {
    "Conv": (2, 3, _conv),
    "DepthToSpace": (1, 1, _depth_to_space),
    "GlobalAveragePool": (1, 1, _pool),
    "LayerNormalization": (2, 2, _layer_norm),
    "ReduceL2": (2, 2, _reduce),
    "ReduceMean": (2, 2, _reduce),
    "Split": (2, 2, _split),
    "Transpose": (1, 1, _transpose),
    **dict.fromkeys(("Add", "Div", "Max", "Mul", "Sub"), (2, 2, _elementwise)),
    "Sqrt": (1, 1, _elementwise),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), (3, 3, _quantise)),
}
