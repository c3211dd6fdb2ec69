"""What a network is told of the whole picture: once for each, before its first evaluation, whatever its tiles are."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.scaling import CLIP, STRETCH, axes
from mrs.kernels.update import Pixels
from mrs.runtime import backends
from mrs.runtime.backends.protocol import F32, Network
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError
from mrs.runtime.plan import Plan

# What evaluates it on a CPU, for backends that do not themselves.
ENGINES = ("openvino", "onnxruntime")


class Conditioner:
    """A compiled graph from pictures to their context. One thread at a time.

    Args:
        graph: an ONNX model from `packed`, (N, C, side, side) float32 in [0, 1], to `output`, (N, length, 1, 1).
        channels: C.
        side: to which pictures are scaled.
        threads: most threads to use.
        resize: how they are scaled; see `scaled`.

    Raises:
        BackendError: where no engine for CPUs takes the graph.
    """

    def __init__(self, graph: bytes, channels: int, side: int, threads: int, resize: str = STRETCH) -> None:
        engine = next((backends.get(name) for name in ENGINES if backends.get(name).missing() is None), None)
        if engine is None:
            raise BackendError(f"{' and '.join(ENGINES)} are not there", hint="pip install openvino")
        shape, none = (1, channels, side, side), np.zeros((1, 0), np.float32)
        self._compile = partial(engine.compile, graph, none, shape, "fp32", CompileSettings(threads))
        self._network: Network | None = self._compile()
        self._side, self._resize = side, resize

    def __call__(self, pictures: Pixels) -> F32:
        """The context of pictures, (N, length).

        Args:
            pictures: (N, H, W, C), uint8, or float32 in [0, 1].

        Raises:
            BackendError: where the engine fails.
        """
        network, self._network = self._network, None
        # Where an interrupt came, threads of the engine may still be at work on the last one.
        network = network or self._compile()
        contexts = []
        for picture in pictures:
            network.packed[0] = scaled(picture, self._side, self._resize)
            network.evaluate(0)
            contexts.append(network.output.reshape(-1).copy())
        self._network = network
        return np.stack(contexts)


def conditioner_of(plan: Plan, threads: int) -> Conditioner | None:
    """What gives a plan's network its context, compiled anew; None where the plan has none.

    Raises:
        BackendError: where no engine for CPUs takes it.
    """
    graph, said = plan.conditioner, plan.facts.conditioner
    if graph is None or said is None:
        return None
    return Conditioner(graph, plan.facts.network.channels, said.side, threads, said.resize)


def scaled(picture: Pixels, side: int, resize: str = STRETCH) -> F32:
    """A picture (H, W, C), uint8, or float32 in [0, 1], as (C, side, side) float32 in [0, 1].

    Args:
        picture: the picture.
        side: of what is made of it.
        resize: `stretch` scales both sides to it, by bicubic resampling; `clip` the shorter one, in 256 levels, and
            cuts out the middle, as CLIP's towers were trained.
    """
    # Arrays are restored without it.
    from PIL import Image

    planes = np.asarray(picture).transpose(2, 0, 1)
    if resize == CLIP:
        return np.stack([_middle(plane, side) for plane in _levels(planes)]).astype(np.float32) / np.float32(255)
    planes = planes.astype(np.float32) / np.float32(255 if picture.dtype == np.uint8 else 1)
    small = [
        Image.fromarray(np.ascontiguousarray(plane), "F").resize((side, side), Image.Resampling.BICUBIC)
        for plane in planes
    ]
    return np.clip(np.stack([np.asarray(plane, np.float32) for plane in small]), 0, 1)


def _levels(planes: Pixels) -> NDArray[np.uint8]:
    """In 256 levels, rounded down as the published code rounds."""
    if planes.dtype == np.uint8:
        return planes.astype(np.uint8, copy=False)
    return (np.clip(planes, 0, 1) * np.float32(255)).astype(np.uint8)


def _middle(plane: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The square in the middle of a plane whose shorter side is scaled to `side`."""
    from PIL import Image

    height, width = plane.shape
    down, across = axes(height, width, side, CLIP)
    plane = plane[down.begin : down.end, across.begin : across.end]
    # Columns first, by two calls: levels are clamped in between, and Pillow from 13 on begins with the rows of pictures
    # that are high, which CLIP never saw.
    small = Image.fromarray(np.ascontiguousarray(plane), "L")
    for size in ((across.scaled, len(plane)), (across.scaled, down.scaled)):
        small = small.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(small)[down.first : down.first + side, across.first : across.first + side]
