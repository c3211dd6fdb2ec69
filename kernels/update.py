"""The sampler's work between two network evaluations, as plain NumPy: the specification of every faster kernel.

Arrays are float32. A state is (N, C, H, W); the network's input is (N, 2C, H', W') with x - mu in the first C planes
and mu in the others, zero outside H x W; its output is (N, C, H', W'). H' >= H and W' >= W are padded sizes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.noise import normal
from mrs.kernels.row import Row

F32 = NDArray[np.float32]
Origin = tuple[int, int]


def start(
    picture: NDArray[np.uint8] | F32,
    sigma: float,
    seed: int,
    mu: F32,
    x: F32,
    packed: F32,
    *,
    origin: Origin = (0, 0),
    image: int = 0,
) -> None:
    """From pictures to mu, x_T = mu + sigma z and the first network input.

    Args:
        picture: (N, H, W, C), uint8 or float32 in [0, 1].
        sigma: standard deviation of x_T - mu.
        seed: of the noise; draw 0.
        mu, x: (N, C, H, W), written.
        packed: (N, 2C, H', W'), written inside H x W; what is outside must be zero already.
        origin: (y, x) of this window in the whole picture.
        image: number of its first picture in the whole batch.
    """
    planes = picture.transpose(0, 3, 1, 2)
    mu[...] = planes / np.float32(255) if picture.dtype == np.uint8 else planes
    noise = np.float32(sigma) * normal(seed, 0, mu.shape, origin=origin, image=image)
    x[...] = mu + noise
    _pack(x, mu, packed)
    packed[:, mu.shape[1] :, : mu.shape[2], : mu.shape[3]] = mu


def step(
    x: F32,
    mu: F32,
    output: F32,
    q1: F32,
    q2: F32,
    row: Row,
    clamp: bool,
    seed: int,
    draw: int,
    packed: F32 | None,
    *,
    origin: Origin = (0, 0),
    image: int = 0,
) -> None:
    """One row of a table: convert the network's output, update the state in place, pack the next input.

    Args:
        x: (N, C, H, W), the state, updated in place.
        mu: (N, C, H, W).
        output: (N, C, H', W'), what the network gave for x.
        q1: (N, C, H, W), the last prediction; read where `row.b1` is not 0.
        q2: (N, C, H, W), the one before; read where `row.b2` is not 0, then overwritten with the new prediction.
            May be the same array as q1 where `row.b2` is 0.
        row: the weights.
        clamp: clamp the prediction to [0, 1] before it is used and kept.
        seed, draw: of the noise; nothing is drawn where `row.n` is 0.
        packed: (N, 2C, H', W'), its first C planes written inside H x W; None after the last step.
        origin: (y, x) of this window in the whole picture.
        image: number of its first picture in the whole batch.
    """
    w = [np.float32(weight) for weight in row]
    height, width = x.shape[2:]
    q0 = w[0] * x + w[1] * mu + w[2] * output[:, :, :height, :width]
    if clamp:
        np.clip(q0, 0.0, 1.0, out=q0)
    total = w[3] * x + w[4] * mu + w[5] * q0
    if row.b1:
        total += w[6] * q1
    if row.b2:
        total += w[7] * q2
    if row.n:
        total += w[8] * normal(seed, draw, x.shape, origin=origin, image=image)
    x[...] = total
    q2[...] = q0
    if packed is not None:
        _pack(x, mu, packed)


def finish(x: F32, picture: NDArray[np.uint8] | F32) -> None:
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
