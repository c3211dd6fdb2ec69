"""The compiled form of kernels/update.py for CPUs: same functions, same bits up to the noise's last place.

`_cpu.c` is built when the package is installed. Where there was no compiler the NumPy functions of update.py are used,
which give the same pictures, some milliseconds later; `compiled()` tells which. Either way wrong arrays are refused
before anything is written.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise

import numpy as np

from mrs.kernels import update
from mrs.kernels.noise import Draw
from mrs.kernels.table import CLAMPS, Row
from mrs.kernels.threads import Task, Threads, end
from mrs.kernels.update import F32, History, Pixels

STATES = (np.dtype(np.float32),)
# In the order of the C code's numbers.
PICTURES = (np.dtype(np.uint8), np.dtype(np.float32))
# Below this many elements a second thread costs more than it saves.
SPLIT_FROM = 1 << 15
# Of all restores of a process together, besides those that ask.
MOST_THREADS = 64


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
        for name, arrays in (("mrs_start", 5), ("mrs_step", 9), ("mrs_finish", 3)):
            function = getattr(library, name)
            function.restype = None
            function.argtypes = [ctypes.POINTER(_Job), ctypes.c_int64, ctypes.c_int64] + [ctypes.c_void_p] * arrays
    except (OSError, AttributeError):
        # It is for another processor, or exports other names.
        return None
    return library


def compiled() -> bool:
    """Whether the compiled kernels are installed and load here."""
    return _library() is not None


@cache
def _shared_threads() -> Threads:
    return Threads(MOST_THREADS)


def start(
    picture: Pixels,
    sigma: float,
    draw: Draw,
    mu: F32,
    x: F32,
    packed: F32,
    *,
    threads: int = 1,
) -> None:
    """`update.start` on up to `threads` threads; every array dense, none overlapping another.

    Raises:
        ValueError: for an array of another shape or kind, or a number outside its range.
    """
    count, channels, height, width = x.shape
    _check("picture", picture, (count, height, width, channels), PICTURES)
    _check("mu", mu, x.shape, written=True)
    _check("x", x, x.shape, written=True)
    job = _job(x, packed, 2, draw)
    job.n = sigma
    _check_apart(picture, mu, x, packed)
    library = _library()
    if library is None:
        return update.start(picture, sigma, draw, mu, x, packed)
    arrays = (*_bytes_or_floats(picture), mu, x, packed)
    _split(partial(library.mrs_start, ctypes.byref(job)), count * channels * height, arrays, x.size, threads)


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
    *,
    threads: int = 1,
) -> None:
    """`update.step` on up to `threads` threads; every array dense, none overlapping another save as said there.

    Raises:
        ValueError: for an array of another shape or kind, or a number outside its range.
    """
    count, channels, height, _ = shape = x.shape
    _check("x", x, shape, written=True)
    _check("mu", mu, shape)
    for back, array in enumerate(latest, start=1):
        _check(f"q{back}", array, shape)
    _check("kept", kept, shape, written=True)
    if clamp not in CLAMPS:
        raise ValueError(f"clamp {clamp!r} is not one of {', '.join(CLAMPS)}")
    job = _job(x, output, 1, draw)
    if packed is not None:
        _check("packed", packed, (count, 2 * channels, *output.shape[2:]), written=True)
    # The predictions may be one array or several.
    _check_apart(x, mu, output, packed, *{array.ctypes.data: array for array in (*latest, kept)}.values())
    library = _library()
    if library is None:
        return update.step(x, mu, output, latest, kept, row, clamp, draw, packed)
    for name, weight in zip(Row._fields, row, strict=True):
        setattr(job, name, weight)
    job.clamp = CLAMPS.index(clamp)
    bounds = update.threshold(update.prediction(x, mu, output, row)) if clamp == "threshold" else None
    arrays = (x, mu, output, *latest, kept, packed, bounds)
    _split(partial(library.mrs_step, ctypes.byref(job)), count * channels * height, arrays, x.size, threads)


def finish(x: F32, picture: Pixels, *, threads: int = 1) -> None:
    """`update.finish` on up to `threads` threads; both arrays dense, not overlapping.

    Raises:
        ValueError: for an array of another shape or kind.
    """
    count, channels, height, width = x.shape
    _check("x", x, x.shape)
    _check("picture", picture, (count, height, width, channels), PICTURES, written=True)
    _check_apart(x, picture)
    library = _library()
    if library is None:
        return update.finish(x, picture)
    job = _Job(channels=channels, height=height, width=width)
    arrays = (x, *_bytes_or_floats(picture))
    _split(partial(library.mrs_finish, ctypes.byref(job)), count * height, arrays, x.size, threads)


def _job(x: F32, padded: F32, halves: int, draw: Draw) -> _Job:
    """The sizes and the noise of a call; `padded` is the network's input (2 halves) or output (1)."""
    count, channels, height, width = x.shape
    padded_height, padded_width = padded.shape[2:]
    if padded_height < height or padded_width < width:
        raise ValueError(f"the network's {padded_height}x{padded_width} does not hold the state's {height}x{width}")
    # Of the two, only the network's input is written.
    name, written = ("packed", True) if halves == 2 else ("output", False)
    _check(name, padded, (count, halves * channels, padded_height, padded_width), written=written)
    draw.check()
    return _Job(
        channels=channels, height=height, width=width, pitch=padded_width, area=padded_height * padded_width,
        seed=draw.seed, draw=draw.number, image=draw.image, y=draw.origin[0], x=draw.origin[1],
    )  # fmt: skip


def _check(
    name: str, array: Pixels, shape: tuple[int, ...], dtypes: tuple[np.dtype, ...] = STATES, written: bool = False
) -> None:
    # The C code trusts its pointers: a wrong array here would be a wrong write there.
    flags = array.flags
    if array.shape != shape or array.dtype not in dtypes or not flags.c_contiguous or not flags.aligned:
        kinds = " or ".join(str(dtype) for dtype in dtypes)
        raise ValueError(f"{name} is {array.dtype}{array.shape}; expected {kinds}{shape}, dense")
    if written and not flags.writeable:
        raise ValueError(f"{name} is read-only")


def _check_apart(*arrays: Pixels | None) -> None:
    spans = sorted((array.ctypes.data, array.nbytes) for array in arrays if array is not None)
    for (address, size), (following, _) in pairwise(spans):
        if address + size > following:
            raise ValueError("two of the arrays overlap")


def _bytes_or_floats(picture: Pixels) -> tuple[Pixels | None, Pixels | None]:
    return (picture, None) if picture.dtype == np.uint8 else (None, picture)


def _split(
    function: Callable[..., None],
    lines: int,
    arrays: tuple[Pixels | None, ...],
    elements: int,
    threads: int,
) -> None:
    def run(low: int, high: int) -> None:
        # Holding the arrays, a thread that a second interrupt leaves behind still writes to memory that is there.
        function(low, high, *(None if array is None else array.ctypes.data for array in arrays))

    parts = min(threads, lines) if elements >= SPLIT_FROM else 1
    if parts <= 1:
        run(0, lines)
        return
    bounds = [lines * part // parts for part in range(parts + 1)]
    others = [Task(run, low, high) for low, high in pairwise(bounds[1:])]
    # ctypes releases the interpreter lock.
    try:
        for other in others:
            _shared_threads().submit(other)
        run(bounds[0], bounds[1])
        for other in others:
            other.result()
    except BaseException:
        # The caller may use its arrays again: nobody else writes to them any more.
        end(others)
        raise
