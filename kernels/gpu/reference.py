"""The kernels of this folder as plain NumPy: same signatures, same arrays, in terms of kernels/update.py.

Arrays of the network may have any strides, and are float32 here; half precision is one rounding of what stands in them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrs.kernels import scaling, update
from mrs.kernels.gpu.tables import CLAMP, KEEP
from mrs.kernels.noise import Draw
from mrs.kernels.scaling import Fit
from mrs.kernels.table import CLAMPS, Row
from mrs.kernels.update import F32

U32 = NDArray[np.uint32]
Size = tuple[int, int]


def start(picture: NDArray[np.uint8] | F32, mu: F32, x: F32, packed: F32, records: F32, key: U32) -> None:
    """As `mrs.kernels.gpu.start`."""
    height, width = picture.shape[1:3]
    for array in (mu, x, packed):
        array[...] = 0
    inner_mu, inner_x = (np.ascontiguousarray(array[..., :height, :width]) for array in (mu, x))
    inner = np.ascontiguousarray(packed[..., :height, :width])
    sigma = float(records[0, Row._fields.index("n")])
    update.start(picture, sigma, _draw(key, 0), inner_mu, inner_x, inner)
    mu[..., :height, :width] = inner_mu
    x[..., :height, :width] = inner_x
    packed[..., :height, :width] = inner


def step(
    x: F32,
    mu: F32,
    output: F32,
    history: F32,
    packed: F32,
    records: F32,
    key: U32,
    bounds: F32 | None,
    index: int,
    size: tuple[int, int],
) -> None:
    """As `mrs.kernels.gpu.step`; the threshold is taken from the prediction, `bounds` is not read."""
    channels = x.shape[1]
    advanced, kept = _row(x, mu, output, history, records, key, index, size)
    height, width = size
    x[...] = 0
    x[..., :height, :width] = advanced
    packed[:, :channels] = 0
    packed[:, :channels, :height, :width] = advanced - mu[..., :height, :width]
    if records[index + 1, KEEP]:
        history[index % len(history)] = 0
        history[index % len(history), ..., :height, :width] = kept


def finish(
    x: F32,
    mu: F32,
    output: F32,
    history: F32,
    picture: NDArray[np.uint8] | F32,
    records: F32,
    key: U32,
    bounds: F32 | None,
    index: int,
) -> None:
    """As `mrs.kernels.gpu.finish`; the threshold is taken from the prediction, `bounds` is not read."""
    size = (picture.shape[1], picture.shape[2])
    advanced, _ = _row(x, mu, output, history, records, key, index, size)
    update.finish(advanced, picture)


def threshold(
    x: F32, mu: F32, output: F32, records: F32, counts: NDArray[np.int32], bounds: F32, index: int, size: Size
) -> None:
    """As `mrs.kernels.gpu.threshold`; `counts` are not read."""
    height, width = size
    x, mu, output = (array[..., :height, :width] for array in (x, mu, output))
    bounds[...] = update.threshold(update.prediction(x, mu, output, _weights(records, index)))


def mirror(packed: F32, size: Size) -> None:
    """As `mrs.kernels.gpu.mirror`."""
    update.mirror(packed, size)


def scale(pictures: NDArray[np.uint8] | F32, number: int, fit: Fit, target: F32) -> None:
    """As `mrs.kernels.gpu.scale`, without what that keeps between its launches."""
    target[0] = scaling.scale(pictures[number], fit)


def audit(values: F32, status: NDArray[np.int32]) -> None:
    """As `mrs.kernels.gpu.audit`."""
    if not np.isfinite(values).all():
        status[...] = 1


def _row(
    x: F32, mu: F32, output: F32, history: F32, records: F32, key: U32, index: int, size: tuple[int, int]
) -> tuple[F32, F32]:
    """The state after a row and the prediction it kept, of the picture's size; its arguments stay as they are."""
    height, width = size
    x, mu, output = (np.array(array[..., :height, :width], order="C") for array in (x, mu, output))
    slots = len(history)
    # The last, the one before, the one before that. Without slots nothing is read.
    q1, q2, q3 = (
        np.array(history[(index - back) % slots, ..., :height, :width], order="C") if slots else x for back in (1, 2, 3)
    )
    kept = np.empty_like(x)
    weights, clamp = _weights(records, index), CLAMPS[int(records[index + 1, CLAMP])]
    update.step(x, mu, output, (q1, q2, q3), kept, weights, clamp, _draw(key, index + 1), None)
    return x, kept


def _draw(key: U32, number: int) -> Draw:
    seed, image, top, left = map(int, key)
    return Draw(seed, number, (top, left), image)


def _weights(records: F32, index: int) -> Row:
    return Row._make(map(float, records[index + 1, : len(Row._fields)]))
