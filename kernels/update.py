"""The sampler's work between two network evaluations, as plain NumPy: the specification of every faster kernel.

Arrays are float32. A state is (N, C, H, W); the network's input is (N, 2C, H', W') with x - mu in the first C planes
and mu in the others, zero outside H x W; its output is (N, C, H', W'). H' >= H and W' >= W are padded sizes.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.noise import Draw
from mrs.kernels.table import Row

F32 = NDArray[np.float32]
# Pictures: bytes, or floats in [0, 1].
Pixels = NDArray[np.uint8 | np.float32]
History = tuple[F32, F32, F32]
Float = TypeVar("Float", np.float32, np.float64)

# Of the published dynamic threshold.
QUANTILE = 0.995
LARGEST_THRESHOLD = 1.5

# Infinities and NaN run through, to be found once at the end of a restore.
silent = np.errstate(over="ignore", invalid="ignore")


def start(
    picture: Pixels,
    sigma: float,
    draw: Draw,
    mu: F32,
    x: F32,
    packed: F32,
) -> None:
    """From pictures to mu, x_T = mu + sigma z and the first network input.

    Args:
        picture: (N, H, W, C), uint8 or float32 in [0, 1].
        sigma: standard deviation of x_T - mu.
        draw: z; draw 0 of a restore.
        mu, x: (N, C, H, W), written.
        packed: (N, 2C, H', W'), written inside H x W; what is outside must be zero already.
    """
    planes = picture.transpose(0, 3, 1, 2)
    mu[...] = planes / np.float32(255) if picture.dtype == np.uint8 else planes
    x[...] = mu + np.float32(sigma) * draw.normal(mu.shape)
    _pack(x, mu, packed)
    packed[:, mu.shape[1] :, : mu.shape[2], : mu.shape[3]] = mu


@silent
def step(
    x: F32,
    mu: F32,
    output: F32,
    latest: History,
    kept: F32,
    row: Row,
    clamp: str,
    draw: Draw,
    packed: F32 | None,
) -> None:
    """One row of a table: convert the network's output, update the state in place, pack the next input.

    Args:
        x: (N, C, H, W), the state, updated in place.
        mu: (N, C, H, W).
        output: (N, C, H', W'), what the network gave for x.
        latest: q1, q2, q3, each (N, C, H, W): the last prediction, the one before, the one before that; read where
            `row.b1` (or `row.m`), `row.b2`, `row.b3` is not 0.
        kept: (N, C, H, W), overwritten with the new prediction. May be the same array as any of `latest`.
        row: the weights.
        clamp: what is done to the prediction before it is used and kept: `none`; `unit`, clamped to [0, 1]; or
            `threshold`, clamped to +-b and divided by b, with the `threshold` b of each picture.
        draw: z; nothing is drawn where `row.n` is 0.
        packed: (N, 2C, H', W'), its first C planes written inside H x W; None after the last step.
    """
    w = Row._make(map(np.float32, row))
    q0 = _convert(x, mu, output, w)
    if clamp == "unit":
        np.clip(q0, 0.0, 1.0, out=q0)
    elif clamp == "threshold":
        bound = threshold(q0)[:, None, None, None]
        q0 = np.clip(q0, -bound, bound) / bound
    # As float32: what rounds to 0 there reads nothing, as in the compiled form.
    if w.m:
        q0 += w.m * (latest[0] - q0)
    total = w.ax * x + w.am * mu + w.b0 * q0
    for weight, q in zip((w.b1, w.b2, w.b3), latest, strict=True):
        if weight:
            total += weight * q
    if w.n:
        total += w.n * draw.normal(x.shape)
    x[...] = total
    kept[...] = q0
    if packed is not None:
        _pack(x, mu, packed)


def mirror(packed: F32, size: tuple[int, int]) -> None:
    """Reflect a picture into the network's padding below and to the right of it, for networks trained with that.

    Args:
        packed: (N, 2C, H', W'), written outside H x W.
        size: (H, W) of the picture.

    The published code (`F.pad(mode="reflect")` of IR-SDE's ConditionalUNet) refuses a margin that is not smaller than
    the picture. Here the reflection goes on to and fro, as light between two mirrors does; one line is repeated.
    """
    height, width = size
    rows, columns = (reflected(*sides) for sides in zip(size, packed.shape[2:], strict=True))
    packed[:, :, :height, width:] = packed[:, :, :height, columns[width:]]
    packed[:, :, height:] = packed[:, :, rows[height:]]


def reflected(side: int, padded: int) -> NDArray[np.int64]:
    """Which line of `side` stands at each of `padded` places: 0 1 2 1 0 1 ..."""
    period = max(1, 2 * (side - 1))
    place = np.arange(padded) % period
    return np.minimum(place, period - place) if side > 1 else np.zeros(padded, np.int64)


def threshold(q: NDArray[Float]) -> NDArray[Float]:
    """MR Sampler's dynamic threshold of each picture: the 0.995 quantile of |q|, kept within [1, 1.5].

    Args:
        q: (N, C, H, W), data predictions.

    Returns:
        (N,), of q's dtype. Between two ranks the quantile is interpolated linearly, in float64. Infinities count as
        large numbers; where the quantile is NaN, so is the threshold.
    """
    if not q.size:
        return np.ones(len(q), q.dtype)
    values = np.abs(q.reshape(len(q), -1))
    rank = QUANTILE * (values.shape[1] - 1)
    low, high = math.floor(rank), math.ceil(rank)
    pair = np.partition(values, (low, high), axis=1)[:, [low, high]].astype(np.float64)
    # The difference of two infinities would be NaN; float32's largest number is far beyond the bounds below too.
    pair = np.minimum(pair, np.finfo(np.float32).max)
    quantile = pair[:, 0] + (pair[:, 1] - pair[:, 0]) * (rank - low)
    return np.clip(quantile, 1.0, LARGEST_THRESHOLD).astype(q.dtype)


@silent
def prediction(x: F32, mu: F32, output: F32, row: Row) -> F32:
    """q0 of a step before any clamp, (N, C, H, W), from arrays as in `step`."""
    return _convert(x, mu, output, Row._make(map(np.float32, row)))


def finish(x: F32, picture: Pixels) -> None:
    """From the last state to a picture: clamped to [0, 1]; for uint8, 255 x rounded to nearest, halves to even.

    Args:
        x: (N, C, H, W), without NaN.
        picture: (N, H, W, C), uint8 or float32, written.
    """
    clamped = np.clip(x, 0.0, 1.0).transpose(0, 2, 3, 1)
    picture[...] = np.rint(clamped * np.float32(255)) if picture.dtype == np.uint8 else clamped


def _pack(x: F32, mu: F32, packed: F32) -> None:
    _, channels, height, width = x.shape
    np.subtract(x, mu, out=packed[:, :channels, :height, :width])


def _convert(x: F32, mu: F32, output: F32, w: Row) -> F32:
    height, width = x.shape[2:]
    return w.cx * x + w.cm * mu + w.cf * output[:, :, :height, :width]
