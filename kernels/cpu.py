"""The compiled form of kernels/update.py for CPUs: same functions, same bits up to the noise's last place.

`_cpu.c` is built when the package is installed. Where there was no compiler the NumPy functions of update.py are used,
which give the same pictures, some milliseconds later; `compiled()` tells which.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels import update
from mrs.kernels.row import Row
from mrs.kernels.update import F32, Origin

# Below this many elements a second thread costs more than it saves.
SPLIT_FROM = 1 << 15


class _Job(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_int64) for name in ("channels", "height", "width", "pitch", "area")]
        + [(name, ctypes.c_uint32) for name in ("seed", "draw", "image", "y", "x")]
        + [(name, ctypes.c_float) for name in Row._fields]
        + [("clamp", ctypes.c_int32)]
    )


@cache
def _library() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec("mrs.kernels._cpu")
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError:
        return None
    for name, arrays in (("mrs_start", 5), ("mrs_step", 6), ("mrs_finish", 3)):
        function = getattr(library, name)
        function.restype = None
        function.argtypes = [ctypes.POINTER(_Job), ctypes.c_int64, ctypes.c_int64] + [ctypes.c_void_p] * arrays
    return library


def compiled() -> bool:
    """Whether the compiled kernels are installed and load here."""
    return _library() is not None


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="mrs-step")


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
    threads: int = 1,
) -> None:
    """`update.start` on up to `threads` threads; every array dense."""
    library = _library()
    if library is None:
        return update.start(picture, sigma, seed, mu, x, packed, origin=origin, image=image)
    count, channels, height, width = x.shape
    _check("picture", picture, (count, height, width, channels), (np.uint8, np.float32))
    _check("mu", mu, x.shape)
    _check("x", x, x.shape)
    job = _job(x, packed, 2, seed, 0, origin, image)
    job.n = sigma
    as_bytes, as_floats = (_address(picture), None) if picture.dtype == np.uint8 else (None, _address(picture))
    arrays = (as_bytes, as_floats, _address(mu), _address(x), _address(packed))
    _split(partial(library.mrs_start, ctypes.byref(job)), count * channels * height, arrays, x.size, threads)


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
    threads: int = 1,
) -> None:
    """`update.step` on up to `threads` threads; every array dense."""
    library = _library()
    if library is None:
        return update.step(
            x, mu, output, q1, q2, row, clamp, seed, draw, packed, origin=origin, image=image
        )
    for name, array in (("x", x), ("mu", mu), ("q1", q1), ("q2", q2)):
        _check(name, array, x.shape)
    job = _job(x, output, 1, seed, draw, origin, image)
    if packed is not None:
        count, channels = x.shape[:2]
        _check("packed", packed, (count, 2 * channels, *output.shape[2:]))
    for name, weight in zip(Row._fields, row, strict=True):
        setattr(job, name, weight)
    job.clamp = clamp
    arrays = tuple(None if array is None else _address(array) for array in (x, mu, output, q1, q2, packed))
    lines = x.shape[0] * x.shape[1] * x.shape[2]
    _split(partial(library.mrs_step, ctypes.byref(job)), lines, arrays, x.size, threads)


def finish(x: F32, picture: NDArray[np.uint8] | F32, *, threads: int = 1) -> None:
    """`update.finish` on up to `threads` threads; every array dense."""
    library = _library()
    if library is None:
        return update.finish(x, picture)
    count, channels, height, width = x.shape
    _check("x", x, x.shape)
    _check("picture", picture, (count, height, width, channels), (np.uint8, np.float32))
    job = _Job(channels=channels, height=height, width=width)
    as_bytes, as_floats = (_address(picture), None) if picture.dtype == np.uint8 else (None, _address(picture))
    arrays = (_address(x), as_bytes, as_floats)
    _split(partial(library.mrs_finish, ctypes.byref(job)), count * height, arrays, x.size, threads)


def _job(x: F32, padded: F32, halves: int, seed: int, draw: int, origin: Origin, image: int) -> _Job:
    """The sizes and the noise of a call; `padded` is the network's input (2 halves) or output (1)."""
    count, channels, height, width = x.shape
    high, wide = padded.shape[2:]
    if high < height or wide < width:
        raise ValueError(f"the network's {high}x{wide} does not hold the state's {height}x{width}")
    _check("packed" if halves == 2 else "output", padded, (count, halves * channels, high, wide))
    return _Job(
        channels=channels, height=height, width=width, pitch=wide, area=high * wide,
        seed=seed, draw=draw, image=image, y=origin[0], x=origin[1],
    )  # fmt: skip


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...], dtypes: tuple[Any, ...] = (np.float32,)) -> None:
    # The C code trusts its pointers: a wrong array here would be a wrong write there.
    if array.shape != shape or array.dtype not in dtypes or not array.flags.c_contiguous:
        raise ValueError(f"{name} is {array.dtype}{array.shape}, dense {array.flags.c_contiguous}; expected {shape}")


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def _split(
    function: Callable[..., None], lines: int, arrays: tuple[int | None, ...], elements: int, threads: int
) -> None:
    parts = min(threads, lines) if elements >= SPLIT_FROM else 1
    if parts <= 1:
        function(0, lines, *arrays)
        return
    bounds = [lines * part // parts for part in range(parts + 1)]
    # ctypes releases the interpreter lock. A pool does not survive a fork, hence one per process.
    pool = _pool(os.getpid())
    others = [pool.submit(function, low, high, *arrays) for low, high in zip(bounds[1:], bounds[2:], strict=False)]
    function(bounds[0], bounds[1], *arrays)
    for other in others:
        other.result()
