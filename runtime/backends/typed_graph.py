"""The plan's float32 graph as a strongly typed one: every value has its type in the graph, and an engine keeps it.

Convolutions and products of matrices take and give half precision. Norms with their statistics, softmaxes, the means of
the attention and the modulation by time are float32. Sums and products have the wider type of their operands, as in
torch, so that what lies between a norm and the next convolution is float32. The residual stream, a sum of outputs of
convolutions, is half precision: it reaches hundreds, where float16 is still exact to 2^-11, while the squares of it
would overflow.

An attention of all pixels to all is half precision throughout, in the pattern that TensorRT runs as one kernel, whose
own numbers are float32: products of queries, which are scaled before, and keys, their softmax, products by the values.

A graph that was quantised for int8 or fp8 has that type between QuantizeLinear and DequantizeLinear. All the rest,
scales too, is as for float16, which loses less than bfloat16 does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mrs.runtime.backends.half_precision import CONVOLUTIONS, SPREAD, Roles
from mrs.runtime.backends.onnx_graph import parse
from mrs.runtime.backends.protocol import MEANS, QUANTISED
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

# By the names of ONNX. A Cast is of sides of a value, which are computed with.
FLOAT32 = frozenset(
    {"Cast", "Div", "Erf", "GlobalAveragePool", "InstanceNormalization", "LayerNormalization", "Max", "ReduceL2",
     "ReduceMean", "Sigmoid", "Sqrt"}
)  # fmt: skip
WIDER = frozenset({"Add", "Mul", "Sub"})
# These move values about; what comes after the first input tells how.
MOVES = frozenset({"DepthToSpace", "Reshape", "Split", "Transpose"})
# The third input, a zero, tells the quantised type.
QUANTISING = frozenset({"DequantizeLinear", "QuantizeLinear"})
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# The smallest float16: a scale must be positive, also of weights that are next to nothing.
LEAST_SCALE = 2.0**-24
# The type of what is not float32.
HALVES = {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16", "int8": "FLOAT16", "fp8": "FLOAT16"}
# The first opset whose convolutions may be bfloat16, with the format that it came with.
BF16_OPSET, BF16_IR = 22, 10


def typed_graph(graph: bytes, precision: str, sides: Sequence[int | None]) -> bytes:
    """The graph with types, and casts where they change.

    Args:
        graph: an ONNX model as an architecture of mrs.export writes it, or as export/quantise.py makes of it.
        precision: of convolutions, of the input `packed` and of the output: `fp32`, `fp16` or `bf16`; or the type for
            which the graph was quantised, `int8` or `fp8`, with `packed` and output in float16.
        sides: (N, H, W) of the input; None for a side that is not fixed.

    Returns:
        An ONNX model with the inputs `packed`, `modulation` and perhaps `context` (these two float32 in any case) and
        the output `output`.

    Raises:
        BackendError: for a graph that cannot be read, an operation that is none of that file's, a weight that half
            precision cannot hold, or a graph that is not quantised for the precision.
    """
    import onnx

    model = parse(graph)
    for value in (*model.graph.input, *model.graph.output):
        # The modulation is one for the whole batch, and a context a single pixel.
        places = {"modulation": (), "context": (0,)}.get(value.name, (0, 2, 3))
        for place, side in zip((0, 2, 3), sides, strict=True):
            if side is not None and place in places:
                value.type.tensor_type.shape.dim[place].dim_value = side
    _check_quantised(model.graph, precision)
    # Of values in between a tool may have noted types, which change here.
    del model.graph.value_info[:]
    typing = _Typing(model.graph, onnx.TensorProto.DataType.Value(HALVES[precision]))
    nodes = list(typing.nodes())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if precision == "bf16":
        model.opset_import[0].version, model.ir_version = BF16_OPSET, BF16_IR
    return bytes(model.SerializeToString())


def _check_quantised(graph: GraphProto, precision: str) -> None:
    import onnx

    wanted = {"int8": onnx.TensorProto.INT8, "fp8": onnx.TensorProto.FLOAT8E4M3FN}.get(precision)
    zeros = {node.input[2] for node in graph.node if node.op_type in QUANTISING}
    found = {tensor.data_type for tensor in graph.initializer if tensor.name in zeros}
    if found != ({wanted} if precision in QUANTISED else set()):
        raise BackendError(f"the graph is not one for {precision}", hint=f"build a plan with --precision {precision}")


class _Typing:
    """The types of a graph's values. Weights of convolutions are converted where they are met."""

    def __init__(self, graph: GraphProto, half: int) -> None:
        import onnx

        self.graph, self.half, self.float = graph, half, int(onnx.TensorProto.FLOAT)
        self.float16, self.whole = int(onnx.TensorProto.FLOAT16), int(onnx.TensorProto.INT64)
        self.roles = Roles(graph)
        self.types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        for value in graph.input:
            self.types[value.name] = self.float
        for value in (graph.input[0], *graph.output):
            value.type.tensor_type.elem_type = half
        self.types[graph.input[0].name] = half
        self.casts: dict[tuple[str, int], str] = {}

    def nodes(self) -> Iterator[NodeProto]:
        """The graph's nodes in order, with casts before those that need them."""
        for node in self.graph.node:
            if node.op_type in QUANTISING:
                yield from self._quantised(node)
            elif node.output[0] in self.roles.means and self.half == self.float16:
                yield from self._mean(node)
            elif node.op_type == "Shape":
                self.types[node.output[0]] = self.whole
                yield node
            else:
                yield from self._typed(node)
        # The last node is a convolution, whose output has the type of the graph's.

    def _typed(self, node: NodeProto) -> Iterator[NodeProto]:
        for name in self.roles.half_weights.intersection(node.input):
            # Those of a quantised convolution have that type.
            if name in self.weights:
                self._convert(name)
        # An axis, a side or a list of sizes has no precision.
        numbers = [name for name in node.input if self.types[name] in (self.half, self.float)]
        made = self._made(node, numbers)
        if node.op_type in MOVES:
            numbers = []
        elif node.op_type in CONVOLUTIONS:
            numbers = numbers[:1]
        types = {self.types[name] for name in numbers if name not in self.weights}
        for name in numbers:
            yield from self._cast(node, name, made)
        self.types.update(dict.fromkeys(node.output, made))
        if node.op_type == "Add" and types == {self.half, self.float} != {self.float}:
            yield from self._narrowed(node)
        else:
            yield node

    def _made(self, node: NodeProto, numbers: Sequence[str]) -> int:
        """The type in which a node computes."""
        found = {self.types[name] for name in numbers}
        if node.op_type in FLOAT32 or (node.input[1:2] and node.input[1].startswith(MEANS)):
            return self.float
        if node.op_type in CONVOLUTIONS:
            return self.float if node.input[0] in self.roles.vectors else self.half
        if node.op_type == "MatMul":
            return self.float if self.roles.is_small(node) else self.half
        if node.op_type == "Softmax":
            return self.half if node.output[0] in self.roles.attentions else self.float
        if node.op_type in WIDER:
            return self.float if self.float in found else self.half
        if node.op_type in MOVES:
            return self.types[node.input[0]]
        raise BackendError(f"the graph's operation {node.op_type} has no types here", hint="build the plan again")

    def _narrowed(self, node: NodeProto) -> Iterator[NodeProto]:
        """A sum of a residual and what is float32: computed so, and kept as residuals are."""
        import onnx

        made = node.output[0]
        node.output[0] = f"{made}.wide"
        self.types[made] = self.half
        yield node
        yield onnx.helper.make_node("Cast", [node.output[0]], [made], name=f"{made}.narrow", to=self.half)

    def _mean(self, node: NodeProto) -> Iterator[NodeProto]:
        """A mean by a distribution over all pixels, in float16: of a hundred thousand terms, each next to nothing.

        TensorRT may sum float16 in float16. What is cast to float32 before a product it multiplies as float16 and sums
        in float32, so that no term is lost (its documentation, Control of Computational Precision).
        """
        import onnx

        made = node.output[0]
        factors = [self._number(f"{made}.{name}", value) for name, value in (("up", SPREAD), ("down", 1 / SPREAD))]
        spread, wide = f"{made}.spread", f"{made}.wide"
        yield onnx.helper.make_node("Mul", [node.input[0], factors[0]], [spread], name=spread)
        node.input[0] = spread
        for name in (spread, node.input[1]):
            self.types.setdefault(name, self.float)
            yield from self._cast(node, name, self.half)
        for place, name in enumerate(node.input):
            again = f"{made}.{place}"
            yield onnx.helper.make_node("Cast", [name], [again], name=again, to=self.float)
            node.input[place] = again
        node.output[0] = wide
        yield node
        yield onnx.helper.make_node("Mul", [wide, factors[1]], [made], name=f"{made}.scaled")
        self.types[made] = self.float

    def _number(self, name: str, value: float) -> str:
        import onnx

        self.graph.initializer.append(onnx.helper.make_tensor(name, self.float, (), [value]))
        return name

    def _quantised(self, node: NodeProto) -> Iterator[NodeProto]:
        """Into the quantised type or out of it; a scale has the type of what is scaled."""
        self._convert(node.input[1], LEAST_SCALE)
        if node.op_type == DEQUANTIZE:
            self.types[node.output[0]] = self.half
        else:
            if node.input[0] in self.weights:
                self._convert(node.input[0])
            yield from self._cast(node, node.input[0], self.half)
            self.types[node.output[0]] = self.types[node.input[2]]
        yield node

    def _cast(self, node: NodeProto, name: str, wanted: int) -> Iterator[NodeProto]:
        """Let a node read a value in another type; one cast serves all that want it."""
        import onnx

        if self.types[name] == wanted:
            return
        if (name, wanted) not in self.casts:
            made = self.casts[name, wanted] = f"{name}.as.{onnx.TensorProto.DataType.Name(wanted).lower()}"
            self.types[made] = wanted
            yield onnx.helper.make_node("Cast", [name], [made], name=made, to=wanted)
        for place, read in enumerate(node.input):
            if read == name:
                node.input[place] = self.casts[name, wanted]

    def _convert(self, name: str, least: float = -math.inf) -> None:
        if self.types[name] == self.half:
            return
        import torch
        from onnx import numpy_helper

        tensor = self.weights[name]
        wanted = {"FLOAT16": torch.float16, "BFLOAT16": torch.bfloat16}[type(tensor).DataType.Name(self.half)]
        values = torch.from_numpy(numpy_helper.to_array(tensor).copy()).clamp(min=least).to(wanted)
        if not bool(torch.isfinite(values).all()):
            raise BackendError(
                f"{name} is too large for {str(wanted).removeprefix('torch.')}", hint="use precision bf16 or fp32"
            )
        dims = list(tensor.dims)
        tensor.Clear()
        tensor.name, tensor.data_type = name, self.half
        tensor.dims.extend(dims)
        # The bits, of which NumPy has no bfloat16.
        tensor.raw_data = values.view(torch.int16).numpy().astype("<i2").tobytes()
        self.types[name] = self.half
