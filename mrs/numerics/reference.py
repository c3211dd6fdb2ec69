"""The reference loop: any table, any denoiser, plain NumPy. What every runtime must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.noise import normal
from mrs.kernels.seeds import SEEDS
from mrs.kernels.table import Row, Table
from mrs.kernels.update import threshold
from mrs.runtime.errors import InputError

# float32 or float64, as the caller's are.
Array = NDArray[Any]
Denoiser = Callable[[Array, Array, float], Array]


def sample(
    denoiser: Denoiser,
    mu: Array,
    table: Table,
    noise: Sequence[Array] | Array | None = None,
    init_noise: Array | None = None,
    seed: int = 0,
    clamp: bool = True,
) -> Array:
    """Restore pictures by running a table.

    Args:
        denoiser: called as `denoiser(x, mu, t)` with x and mu like `mu` below and t a float in forward steps; returns
            the network's output, like mu. It is called `len(table.rows)` times.
        mu: degraded pictures, (N, C, H, W) float32 or float64 in [0, 1]; the arithmetic is done in its dtype.
        table: what to run, from `mrs.tableau`.
        noise: `noise[i]` is the normal noise of row i, like mu; by default drawn from the seed.
        init_noise: normal noise of x_T, like mu; by default drawn from the seed.
        seed: of the noise that is not given, 0 to 2^32 - 1.
        clamp: clamp the result to [0, 1].

    Returns:
        The restored pictures, like mu.

    Raises:
        InputError: for arrays of another shape, too little noise, or a seed outside its range.
    """
    mu = np.asarray(mu)
    if mu.ndim != 4 or mu.dtype not in (np.float32, np.float64):
        raise InputError(f"mu is {mu.dtype}{mu.shape}", hint="give (N, C, H, W) float32 or float64")
    if not 0 <= seed < SEEDS:
        raise InputError(f"seed {seed} is outside 0 to 2^32 - 1")
    needed = max((i + 1 for i, row in enumerate(table.rows) if row.n), default=0)
    if noise is not None and len(noise) < needed:
        raise InputError(f"noise has {len(noise)} draws, the table needs {needed}", hint="draw i belongs to row i")
    dtype = mu.dtype.type
    z = normal(seed, 0, mu.shape) if init_noise is None else init_noise
    x = mu + dtype(table.start) * _like(mu, z, "init_noise")
    q1 = q2 = q3 = np.zeros_like(mu)
    for i, (t, row) in enumerate(zip(table.times, table.rows, strict=False)):
        output = _like(mu, denoiser(x, mu, t), "the denoiser's output")
        w = Row._make(map(dtype, row))
        q0 = w.cx * x + w.cm * mu + w.cf * output
        if table.clamp == "unit":
            q0 = np.clip(q0, dtype(0), dtype(1))
        elif table.clamp == "threshold":
            bound = threshold(q0)[:, None, None, None]
            q0 = np.clip(q0, -bound, bound) / bound
        q0 = q0 + w.m * (q1 - q0)
        x = w.ax * x + w.am * mu + w.b0 * q0 + w.b1 * q1 + w.b2 * q2 + w.b3 * q3
        if row.n:
            x = x + w.n * _like(mu, normal(seed, i + 1, mu.shape) if noise is None else noise[i], f"noise[{i}]")
        q1, q2, q3 = q0, q1, q2
    return np.clip(x, dtype(0), dtype(1)) if clamp else x


def _like(mu: Array, array: Array, name: str) -> Array:
    array = np.asarray(array)
    if array.shape != mu.shape:
        raise InputError(f"{name} is {array.shape}, mu is {mu.shape}")
    return array.astype(mu.dtype, copy=False)
