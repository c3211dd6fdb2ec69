"""A model's nodes in their order, on its inputs and weights: each reads what is there, and nothing is left over."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mrs.runtime.onnx_guard.model import FLOAT32, INT64, Model, Port, whole_numbers
from mrs.runtime.onnx_guard.operators import ELEMENTWISE, QUANTISING, outputs_of
from mrs.runtime.onnx_guard.values import Value

# Sides that a graph leaves open, as numbers that no weight's side can be; they may be halved forty times.
BATCH, HEIGHT, WIDTH = (prime << 40 for prime in (1_000_003, 1_000_033, 1_000_037))
# Of a picture that a conditioner takes.
LARGEST = 4096
OPEN = {
    "batch": BATCH, "height": HEIGHT, "width": WIDTH,
    # Of latents and of what is seen on the way to them.
    **{f"{name}_{1 << k}": side >> k for name, side in (("height", HEIGHT), ("width", WIDTH)) for k in range(1, 10)},
}  # fmt: skip
# The time that OpenVINO takes to compile grows with the third power of the elementwise operations in a row: a thousand
# take a minute. Of ours there are at most so many, and so many read one value.
RUN, READERS = 9, 3
# What may make a number for each pair of pixels, an attention, which engines do not write down as a whole.
PAIRING = frozenset({"MatMul", "Softmax"})
# It grows with the square of all operations, too. This is a network of a hundred blocks; those that quantise, which no
# CPU compiles, are not counted.
NODES = 4096


class Network(NamedTuple):
    """What a plan's network says of itself.

    Attributes:
        channels: of pictures.
        modulation: length of the vector that depends on time.
        context: length of the vector that depends on the whole picture; 0 for a network that has none.
        multiple: of the sides that it takes.
        bytes_per_pixel: of its largest value.
    """

    channels: int
    modulation: int
    context: int
    multiple: int
    bytes_per_pixel: int


class Conditioner(NamedTuple):
    """What a plan's conditioner says of itself.

    Attributes:
        channels, side: of the pictures that it takes.
        length: of the vector that it gives.
    """

    channels: int
    side: int
    length: int


def network(content: bytes, model: Model, types: frozenset[int]) -> Network:
    """What a network says of itself, once every value of it is followed from where it is made to where it is read.

    Args:
        content: the model's bytes.
        model: what was read of them.
        types: that weights may have.

    Raises:
        ValueError: for a graph that is none of ours.
    """
    values = weights(content, model, types)
    # One more, which nobody sets, would be read as it lies in memory.
    if [port.name for port in model.inputs] not in (["packed", "modulation"], ["packed", "modulation", "context"]):
        raise ValueError(f"inputs {', '.join(port.name for port in model.inputs[:4])}")
    packed, modulation, *context = map(sides_of, model.inputs)
    if packed != (BATCH, packed[1] // 2 * 2, HEIGHT, WIDTH) or modulation != (1, modulation[1], 1, 1):
        raise ValueError("inputs with other sides")
    if any(sides != (BATCH, sides[1], 1, 1) for sides in context):
        raise ValueError("a context with other sides")
    check_output(model)
    add(values, model, (packed, modulation, *context))
    follow(model, values)
    check_outputs(model, values, {"output": (BATCH, packed[1] // 2, HEIGHT, WIDTH)})
    halved = (values[node.outputs[0]].sides[2] for node in model.nodes if node.operator == "Conv")
    return Network(
        packed[1] // 2,
        modulation[1],
        context[0][1] if context else 0,
        HEIGHT // min((side for side in halved if side > 1), default=HEIGHT),
        bytes_per_pixel(model, values),
    )


def conditioner(content: bytes, model: Model, types: frozenset[int]) -> Conditioner:
    """The same for a conditioner.

    Raises:
        ValueError: for a graph that is none of ours.
    """
    values = weights(content, model, types)
    if [port.name for port in model.inputs] != ["packed"]:
        raise ValueError(f"inputs {', '.join(port.name for port in model.inputs[:4])}")
    check_output(model)
    packed, output = sides_of(model.inputs[0]), sides_of(model.outputs[0])
    if packed != (BATCH, packed[1], packed[2], packed[2]) or packed[2] > LARGEST:
        raise ValueError("inputs with other sides")
    add(values, model, (packed,))
    follow(model, values)
    check_outputs(model, values, {"output": (BATCH, output[1], 1, 1)})
    return Conditioner(packed[1], packed[2], output[1])


def check_output(model: Model) -> None:
    """Refuse other outputs than `output`, by name.

    Raises:
        ValueError: so.
    """
    if [port.name for port in model.outputs] != ["output"]:
        raise ValueError("another output")


def check_outputs(model: Model, values: dict[str, Value], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse other outputs than these, by name, and sides that are said or made otherwise.

    Raises:
        ValueError: so.
    """
    said = {port.name: sides_of(port) for port in model.outputs}
    made = {name: values[name].sides for name in wanted if name in values}
    if len(model.outputs) != len(wanted) or not said == made == wanted:
        raise ValueError("another output")


def bytes_per_pixel(model: Model, values: dict[str, Value]) -> int:
    """Of the largest value.

    Raises:
        ValueError: where one grows faster than the picture.
    """
    made = (values[name] for node in model.nodes if node.operator not in PAIRING for name in node.outputs)
    pictures = [
        value.sides for value in (*made, *(values[port.name] for port in model.inputs)) if value.sides[0] == BATCH
    ]
    largest = max(4 * math.prod(sides) // (BATCH * HEIGHT * WIDTH) for sides in pictures)
    if largest >= WIDTH:
        raise ValueError("a number for each pair of pixels")
    return largest


def add(values: dict[str, Value], model: Model, sides: tuple[tuple[int, ...], ...]) -> None:
    """The inputs, to the weights."""
    for port, each in zip(model.inputs, sides, strict=True):
        if port.name in values:
            raise ValueError(f"a weight for the input {port.name}")
        values[port.name] = Value(FLOAT32, each)


def follow(model: Model, values: dict[str, Value]) -> None:
    """Add what the nodes make to what is given."""
    computed = sum(node.operator not in QUANTISING for node in model.nodes)
    if computed > NODES:
        raise ValueError(f"{computed} operations, more than {NODES}")
    read = {port.name for port in model.outputs}
    readers: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    convolved: set[str] = set()
    for node in model.nodes:
        place = f"{node.operator} {', '.join(node.outputs[:1])}"
        # What is not made yet is not there: so there are no circles.
        unknown = [name for name in node.inputs if name not in values]
        again = [name for name in node.outputs if name in values] or len(set(node.outputs)) < len(node.outputs)
        if unknown or again:
            raise ValueError(f"{place} reads what is not there" if unknown else f"{place} is made twice")
        try:
            made = outputs_of(node, [values[name] for name in node.inputs])
        except ValueError as error:
            raise ValueError(f"{place} with {error}") from None
        values.update(zip(node.outputs, made, strict=True))
        read.update(node.inputs)
        if node.operator in ("Conv", "MatMul"):
            convolved.update(node.outputs)
        elif node.operator in ELEMENTWISE:
            readers.update(name for name in node.inputs if not values[name].fixed)
            # What adds a convolution's output, or a product's, is done with that one, and begins a new row.
            if convolved.isdisjoint(node.inputs):
                runs[node.outputs[0]] = 1 + max(runs[name] for name in node.inputs)
    idle = values.keys() ^ read
    if idle:
        raise ValueError(f"{min(idle)} is not {'read' if min(idle) in values else 'made'}")
    if max(runs.values(), default=0) > RUN or max(readers.values(), default=0) > READERS:
        raise ValueError(f"more than {RUN} elementwise operations in a row, or {READERS} of one value")


def weights(content: bytes, model: Model, types: frozenset[int]) -> dict[str, Value]:
    """The weights by name, to which `add` and `follow` add the rest.

    Raises:
        ValueError: for one of a type that is not among `types`.
    """
    values = {}
    for name, tensor in model.weights.items():
        if tensor.type not in types:
            raise ValueError(f"weight {name} of type {tensor.type}")
        numbers = whole_numbers(content, tensor) if tensor.type == INT64 else ()
        values[name] = Value(tensor.type, tensor.dims, True, numbers)
    return values


def sides_of(port: Port) -> tuple[int, ...]:
    """The sides of an input or output: those of a picture are open, the others numbers."""
    known = [side in OPEN if isinstance(side, str) else 0 < side < 1 << 31 for side in port.sides]
    if port.type != FLOAT32 or known != [True] * 4:
        raise ValueError(f"{port.name} of type {port.type} with sides {', '.join(map(str, port.sides[:5]))}")
    return tuple(OPEN[side] if isinstance(side, str) else side for side in port.sides)
