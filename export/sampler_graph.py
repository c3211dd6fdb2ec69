"""The whole sampler as one ONNX graph: pictures in, restored pictures out, every evaluation of the network inside.

Inputs: `picture` (N, H, W, C) uint8 of any size; `noise` (1 + draws, N, C, H, W) float32, standard normal, z of x_T
first and then one for each row that draws. Output: `restored`, like `picture`. The network's nodes stand there once for
each row, its weights once: all copies share them. What the network is told of the whole picture stands there once,
before them: the picture is scaled, and the conditioner gives all rows the same vector. Where latents are restored, the
encoder stands before them and the decoder after them, and the noise has the latents' channels and sides
(`sampler_latents.py`). `mrs.runtime.cpu_chain` and `mrs.runtime.latent_chain` are the same loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from mrs.export.architectures.protocol import Conditioner
from mrs.export.onnx_writer import IR_VERSION, OPSET
from mrs.export.sampler_latents import LATENT, Latents
from mrs.export.sampler_nodes import SamplerEmitter, is_vector
from mrs.export.sampler_scaling import scaled
from mrs.export.sampler_shapes import with_shapes
from mrs.kernels.table import CLAMPS, Row
from mrs.kernels.update import LARGEST_THRESHOLD
from mrs.runtime.chain import Loop
from mrs.runtime.errors import InputError

RESULTS = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
# Names of the sides of pictures, and of those that the network sees.
PICTURE = ("height", "width")
PADDED = ("padded_height", "padded_width")
# The threshold's quantile, 0.995, as a fraction: ranks are whole numbers, which no engine rounds.
RANK = (199, 200)
# One ONNX file holds less, weights and all.
LARGEST = (1 << 31) - (16 << 20)


def build_sampler(
    network: onnx.ModelProto,
    loop: Loop,
    multiple: int,
    metadata: Mapping[str, str] | None = None,
    result: str = "uint8",
    conditioner: Conditioner | None = None,
) -> onnx.ModelProto:
    """The sampler as a checked ONNX model.

    Args:
        network: an architecture's graph, for any size and batch.
        loop: what to run; its condition is not used.
        multiple: the network takes sides that are multiples of it; other pictures, or latents, are padded inside, with
            zeros or by reflection; reflection needs a margin that is smaller than the picture.
        metadata: kept in the model, for whoever wants to know where it comes from.
        result: `uint8`, or `float32` for pictures in [0, 1] that are not rounded.
        conditioner: what tells the network of the whole picture; None for one that is not told.

    Raises:
        InputError: for an unknown clamp or result, and for weights of more than an ONNX file holds.
    """
    _check_size(network, loop, conditioner)
    if loop.table.clamp not in CLAMPS or result not in RESULTS:
        raise InputError(
            f"clamp {loop.table.clamp!r} or result {result!r} is unknown",
            hint=f"clamp: {CLAMPS}, result: {tuple(RESULTS)}",
        )
    channels = inside = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    sides, draws = PICTURE, 1 + loop.table.draws
    emit = SamplerEmitter()
    planes = emit("Transpose", emit("Cast", "picture", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    mu = emit("Div", planes, emit.number(255))
    latents = None
    if loop.codec is not None:
        latents = Latents(emit, loop.codec, mu)
        channels, sides, mu = latents.channels, LATENT, latents.encoded
    noise = (emit("Gather", "noise", emit.constant(np.array(draw, np.int64)), axis=0) for draw in range(draws))
    x = emit.weighted((1.0, mu), (loop.table.start, next(noise)))
    told = {} if conditioner is None else {"context": _context(emit, conditioner, planes)}
    graph = with_shapes(network, PADDED, multiple)
    x = _steps(emit, graph, loop, multiple, (mu, x), noise, told, sides)
    if latents is not None:
        x = latents.decoded(x)

    x = emit("Clip", x, emit.number(0), emit.number(1))
    if result == "uint8":
        # ONNX rounds halves to even, as the runtime does.
        levels = emit("Round", emit("Mul", x, emit.number(255)))
        x = emit("Cast", levels, to=TensorProto.UINT8)
    emit("Transpose", x, perm=[0, 2, 3, 1], output="restored")

    pictures = ["batch", *PICTURE, channels]
    graph = helper.make_graph(
        emit.nodes,
        "restore",
        [
            helper.make_tensor_value_info("picture", TensorProto.UINT8, pictures),
            helper.make_tensor_value_info("noise", TensorProto.FLOAT, [draws, "batch", inside, *sides]),
        ],
        [helper.make_tensor_value_info("restored", RESULTS[result], pictures)],
        [*(tensor for tensor in network.graph.initializer if not is_vector(tensor)), *emit.initializers],
        value_info=emit.shapes,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="mrs-trt")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return model


def _check_size(network: onnx.ModelProto, loop: Loop, conditioner: Conditioner | None) -> None:
    sizes = [network.ByteSize()]
    sizes += [] if conditioner is None else [conditioner.graph.ByteSize()]
    sizes += [] if loop.codec is None else [len(loop.codec.encoder), len(loop.codec.decoder)]
    what = "network and conditioner" if loop.codec is None else "network, encoder and decoder"
    if sum(sizes) > LARGEST:
        raise InputError(f"{what} are {sum(sizes) / 1e9:.1f} GB, more than one ONNX file holds", hint="build a plan")


def _context(emit: SamplerEmitter, conditioner: Conditioner, planes: str) -> str:
    """What the conditioner gives for pictures in 0..255, (N, length, 1, 1)."""
    small = scaled(emit, planes, conditioner.side, conditioner.resize)
    context = emit.copy(conditioner.graph.graph, "conditioner", {"packed": small}, shared=False)
    return emit.shaped(context, "batch", conditioner.length, 1, 1)


def _steps(
    emit: SamplerEmitter,
    network: onnx.GraphProto,
    loop: Loop,
    multiple: int,
    start: tuple[str, str],
    noise: Iterator[str],
    told: dict[str, str],
    names: Sequence[str],
) -> str:
    """All rows; the name of the last state.

    `start` are mu and the first state, whose sides have these names. `told` are further inputs of the network, the same
    in every row.
    """
    mu, x = start
    sides = emit("Shape", mu, start=2)
    missing = emit("Mod", emit("Neg", sides), emit.whole(multiple))
    pads = emit("Concat", emit.whole(0, 0, 0, 0, 0, 0), missing, axis=0)
    mode = "reflect" if loop.mirrors else "constant"
    channels = network.output[0].type.tensor_type.shape.dim[1].dim_value
    padded = emit.shaped(emit("Pad", mu, pads, mode=mode), "batch", channels, *PADDED)
    older: list[str] = []
    for step, row in enumerate(loop.table.rows):
        difference = emit.shaped(emit("Pad", emit("Sub", x, mu), pads, mode=mode), "batch", channels, *PADDED)
        packed = emit("Concat", difference, padded, axis=1)
        modulation = emit.constant(loop.modulation[step][None, :, None, None])
        output = emit.copy(network, f"step_{step}", {"packed": packed, "modulation": modulation, **told})
        output = emit("Slice", output, emit.whole(0, 0), sides, emit.whole(2, 3))
        emit.shaped(output, "batch", channels, *names)
        q0 = _clamped(emit, emit.weighted((row.cx, x), (row.cm, mu), (row.cf, output)), loop.table.clamp)
        if row.m:
            q0 = emit.weighted((1.0, q0), (row.m, emit("Sub", older[0], q0)))
        x = emit.weighted(*_update(row, x, mu, q0, older, noise))
        older = [q0, *older[:2]]
    return x


def _update(row: Row, x: str, mu: str, q0: str, older: list[str], noise: Iterator[str]) -> Iterator[tuple[float, str]]:
    yield from ((row.ax, x), (row.am, mu), (row.b0, q0))
    # No row looks back on more predictions than there are.
    yield from zip((row.b1, row.b2, row.b3), older, strict=False)
    if row.n:
        yield row.n, next(noise)


def _clamped(emit: SamplerEmitter, q: str, clamp: str) -> str:
    """A prediction as it is used and kept."""
    if clamp == "none":
        return q
    if clamp == "unit":
        return emit("Clip", q, emit.number(0), emit.number(1))
    bound = _threshold(emit, q)
    return emit("Div", emit("Max", emit("Min", q, bound), emit("Neg", bound)), bound)


def _threshold(emit: SamplerEmitter, q: str) -> str:
    """`mrs.kernels.update.threshold` of each picture, (N, 1, 1, 1)."""
    values = emit("Flatten", emit("Abs", q))
    above, below = RANK
    # rank = above (count - 1) / below, in parts that fit 32 bits, for some engines have no 64.
    last = emit("Sub", emit("Shape", values, start=1), emit.whole(1))
    parts, rest = emit("Div", last, emit.whole(below)), emit("Mod", last, emit.whole(below))
    rest = emit("Mul", rest, emit.whole(above))
    low = emit("Add", emit("Mul", parts, emit.whole(above)), emit("Div", rest, emit.whole(below)))
    fraction = emit("Cast", emit("Mod", rest, emit.whole(below)), to=TensorProto.FLOAT)
    fraction = emit("Div", fraction, emit.number(below))
    # The value of rank `low` is the last of this many largest ones, the one above it the last but one.
    count = emit("Sub", emit("Add", last, emit.whole(1)), low)
    largest = emit.top(values, count)
    high = emit("Max", emit("Sub", count, emit.whole(2)), emit.whole(0))
    lower = emit("Gather", largest, emit("Sub", count, emit.whole(1)), axis=1)
    upper = emit("Gather", largest, high, axis=1)
    quantile = emit("Add", lower, emit("Mul", emit("Sub", upper, lower), fraction))
    bound = emit("Clip", quantile, emit.number(1), emit.number(LARGEST_THRESHOLD))
    return emit("Reshape", bound, emit.whole(-1, 1, 1, 1))
