"""What a node of a plan's network may be, and the shapes that it makes of shapes.

Engines are native code that trusts a graph in much: an index out of bounds, a division of whole numbers, a shape that
does not fit can end the process. So only what `mrs.export` emits is allowed, with the attributes that it gives, on
shapes that fit. A test removes every entry here and finds a graph of ours that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mrs.runtime.onnx_guard.encoder import PATCHES
from mrs.runtime.onnx_guard.encoder import RULES as ENCODER_RULES
from mrs.runtime.onnx_guard.model import FLOAT8, FLOAT32, INT8, Node
from mrs.runtime.onnx_guard.tokens import RULES as TOKEN_RULES
from mrs.runtime.onnx_guard.tokens import Rule
from mrs.runtime.onnx_guard.values import Value, check, picture, weight

# Operator, attribute, and the values that it may have; None where it may be absent. Of `group` see `_conv`.
ATTRIBUTES: dict[str, dict[str, tuple[object, ...]]] = {
    "Add": {},
    "Cast": {"to": (FLOAT32,)},
    "Conv": {
        "group": (),
        "kernel_shape": ((1, 1), (2, 2), (3, 3), (4, 4), (7, 7), *((side, side) for side in PATCHES)),
        "pads": ((0, 0, 0, 0), (1, 1, 1, 1), (3, 3, 3, 3)),
        "strides": ((1, 1), (2, 2), *((side, side) for side in PATCHES)),
    },
    "ConvTranspose": {
        "group": (),
        "kernel_shape": ((4, 4),),
        "pads": ((1, 1, 1, 1),),
        "strides": ((2, 2),),
    },
    "DepthToSpace": {"blocksize": (2,), "mode": ("CRD",)},
    "DequantizeLinear": {"axis": (None, 0)},
    "Div": {},
    "Erf": {},
    "GlobalAveragePool": {},
    "InstanceNormalization": {"epsilon": (float(np.float32(1e-6)),)},
    "LayerNormalization": {"axis": (-1,), "epsilon": (float(np.float32(1e-5)),)},
    "MatMul": {},
    "Max": {},
    "Mul": {},
    "Pad": {},
    "QuantizeLinear": {"axis": (None, 0)},
    "ReduceL2": {"keepdims": (1,)},
    "ReduceMean": {"keepdims": (1,)},
    "Reshape": {},
    "Shape": {"end": (None, 3), "start": (None, 2)},
    "Sigmoid": {},
    "Slice": {},
    "Softmax": {"axis": (-1, 2)},
    "Split": {"axis": (1,)},
    "Sqrt": {},
    "Sub": {},
    "Transpose": {"perm": ((0, 1, 3, 2), (0, 2, 1, 3), (0, 2, 3, 1), (0, 3, 1, 2))},
}
# Side of a convolution's kernel, zeros around its input, stride.
GEOMETRIES = ((1, 0, 1), (2, 0, 2), (3, 1, 1), (4, 1, 2), (7, 3, 1), *((side, 0, side) for side in PATCHES))
# Of these a graph must have no long chains (see `graph.RUN`).
ELEMENTWISE = frozenset({"Add", "Div", "Erf", "Max", "Mul", "Sigmoid", "Sqrt", "Sub"})
QUANTISING = frozenset({"DequantizeLinear", "QuantizeLinear"})


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


def _elementwise(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides = picture(inputs[0])
    for value in inputs[1:]:
        # A number, one for each channel of a token, or as many sides.
        vector = len(value.sides) == 1 and (value.fixed or value.sides == (1,))
        check(value.type == FLOAT32 and (len(value.sides) == 4 or vector or (value.fixed and value.sides == ())))
        pairs = list(zip(sides, (*(1,) * (4 - len(value.sides)), *value.sides), strict=True))
        check(all(one == other or 1 in (one, other) for one, other in pairs))
        sides = tuple(max(pair) for pair in pairs)
    return [Value(FLOAT32, sides)]


def _conv(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, channels, *sides = picture(inputs[0])
    made, each, *kernel = weight(inputs[1], 4)
    if len(inputs) == 3:
        check(weight(inputs[2], 1) == (made,))
    group = node.attributes.get("group")
    # All channels at once, or each by itself.
    check((group == 1 and each == channels) or (group == made == channels and each == 1), f"group {group}")
    (side, _), pads, strides = (node.attributes[name] for name in ("kernel_shape", "pads", "strides"))
    check((side, pads[0], strides[0]) in GEOMETRIES and kernel == [side, side])
    # A stride of two halves what is even, and a picture is whole patches.
    check(not any(one % strides[0] for one in sides))
    return [Value(FLOAT32, (count, made, *(one // strides[0] for one in sides)))]


def _conv_transpose(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, channels, *sides = picture(inputs[0])
    each, made, *kernel = weight(inputs[1], 4)
    check(each == channels and kernel == [4, 4] and weight(inputs[2], 1) == (made,))
    check(node.attributes.get("group") == 1, f"group {node.attributes.get('group')}")
    return [Value(FLOAT32, (count, made, *(2 * one for one in sides)))]


def _pool(inputs: Sequence[Value], node: Node) -> list[Value]:
    return [Value(FLOAT32, (*picture(inputs[0])[:2], 1, 1))]


def _reduce(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, _, *sides = picture(inputs[0])
    check(inputs[1].sides == (1,) and inputs[1].numbers == (1,), "another axis than the channels")
    return [Value(FLOAT32, (count, 1, *sides))]


def _layer_norm(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides = picture(inputs[0])
    check(all(weight(value, 1) == sides[3:] for value in inputs[1:]))
    return [Value(FLOAT32, sides)]


def _transpose(inputs: Sequence[Value], node: Node) -> list[Value]:
    sides = picture(inputs[0])
    return [Value(FLOAT32, tuple(sides[axis] for axis in node.attributes["perm"]))]


def _split(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, channels, *sides = picture(inputs[0])
    parts = inputs[1].numbers
    check(inputs[1].sides == (len(parts),) and min(parts, default=0) > 0 and sum(parts) == channels)
    return [Value(FLOAT32, (count, part, *sides)) for part in parts]


def _depth_to_space(inputs: Sequence[Value], node: Node) -> list[Value]:
    count, channels, *sides = picture(inputs[0])
    # A mean has a side of one and is not spread.
    check(channels % 4 == 0 and 1 not in sides)
    return [Value(FLOAT32, (count, channels // 4, *(2 * side for side in sides)))]


def _quantise(inputs: Sequence[Value], node: Node) -> list[Value]:
    value, scale, zero = inputs
    rank = 0 if node.attributes.get("axis") is None else 1
    check(weight(scale, rank) == value.sides[:rank] and zero.fixed and zero.sides == scale.sides)
    check(zero.type in (INT8, FLOAT8) and len(value.sides) == 4)
    into = node.operator == "QuantizeLinear"
    before, after = (FLOAT32, zero.type) if into else (zero.type, FLOAT32)
    check(value.type == before)
    return [Value(after, value.sides, value.fixed)]


# Fewest and most inputs, and what becomes of them.
RULES: Mapping[str, tuple[int, int, Rule]] = {
    "Conv": (2, 3, _conv),
    "ConvTranspose": (3, 3, _conv_transpose),
    "DepthToSpace": (1, 1, _depth_to_space),
    "GlobalAveragePool": (1, 1, _pool),
    "LayerNormalization": (2, 3, _layer_norm),
    "ReduceL2": (2, 2, _reduce),
    "ReduceMean": (2, 2, _reduce),
    "Split": (2, 2, _split),
    "Transpose": (1, 1, _transpose),
    **dict.fromkeys(("Add", "Div", "Max", "Mul", "Sub"), (2, 2, _elementwise)),
    **dict.fromkeys(("Erf", "Sigmoid", "Sqrt"), (1, 1, _elementwise)),
    **TOKEN_RULES,
    **ENCODER_RULES,
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), (3, 3, _quantise)),
}
