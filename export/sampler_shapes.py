"""Shapes of all values of a network that is copied into a larger graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

# Primes as sides, to be recognised wherever inference takes them; all numbers of a value must be below 2^63.
BATCH, HEIGHT, WIDTH = 1009, 10_007, 10_009


def with_shapes(
    model: onnx.ModelProto, sides: Sequence[str], multiple: int, names: Mapping[str, str] | None = None
) -> onnx.GraphProto:
    """A model's graph with the shape of every value, its sides by name.

    Engines cannot tell that the sides of a convolution's output are those of another's. ONNX Runtime, which plans its
    memory when it loads, would search for many times as long, in vain, and share no memory between values.

    Args:
        model: of whose inputs and outputs open sides are called `batch`, `height` and `width`, or `height_4`, `width_4`
            where these are a fourth.
        sides: names of height and width in the larger graph; a fourth is called `NAME/4` there.
        multiple: of both.
        names: of some sides there, by what they would be called.
    """
    inferred = onnx.ModelProto()
    inferred.CopyFrom(model)
    lengths = {"batch": BATCH, "height": HEIGHT * multiple, "width": WIDTH * multiple}
    known = {BATCH: "batch"}
    for level in range(multiple.bit_length()):
        smaller = [lengths["height"] >> level, lengths["width"] >> level]
        by = f"/{1 << level}" if level else ""
        known |= {each: f"{side}{by}" for side, each in zip(sides, smaller, strict=True)}
        # Where attention takes a picture's pixels as one row.
        known[smaller[0] * smaller[1]] = f"{sides[0]} {sides[1]}{by}"
    for value in (*inferred.graph.input, *inferred.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            side, _, by = dim.dim_param.partition("_")
            if side:
                dim.dim_value = lengths[side] // int(by or 1)
    graph = onnx.shape_inference.infer_shapes(inferred, strict_mode=True).graph
    for value in (*graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value in known:
                name = known[dim.dim_value]
                dim.dim_param = name if names is None else names.get(name, name)
    graph.value_info.extend(graph.output)
    return graph
