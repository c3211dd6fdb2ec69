"""Which arrays and tensors a restorer takes, and the dense pictures that it makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.update import Pixels
from mrs.runtime.device import Device
from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# Of whatever type a caller has.
AnyArray = NDArray[np.generic]
CONVERT = "convert it: 256 levels to uint8, others to floats divided by the largest value"


def array_of(image: object) -> AnyArray:
    """What a caller gave as an array of the host.

    Raises:
        InputError: where it is none.
    """
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        # Such as a tensor on a GPU for a plan that runs on the CPU.
        reason = " ".join(str(error).split())
        raise InputError(f"picture of type {type(image).__name__} is no array here: {reason}") from None


def tensor_of(image: object, device: Device | None) -> Tensor | None:
    """A picture as a tensor on the GPU that restores; None for all others."""
    return None if device is None or isinstance(image, np.ndarray) else device.tensor(image)


def dense_array(image: AnyArray, channels: int) -> Pixels:
    """A picture as dense (N, H, W, C) uint8 or float32; a view where it is that already.

    Raises:
        InputError: for another shape or type, or values outside [0, 1].
    """
    check_shape(image.shape, channels)
    pixels: Pixels
    if image.dtype == np.uint8:
        pixels = image.astype(np.uint8, copy=False)
    else:
        if image.dtype.kind != "f":
            raise InputError(f"picture of dtype {image.dtype} is neither uint8 nor float in [0, 1]", hint=CONVERT)
        # Comparisons are false for NaN, so that it is refused too.
        if not (image.min() >= 0 and image.max() <= 1):
            raise InputError("picture of floats is not within [0, 1]", hint="divide by the largest value, or clip")
        pixels = image.astype(np.float32, copy=False)
    dense = np.ascontiguousarray(pixels if pixels.ndim == 4 else pixels[None])
    # Numbers that begin at an odd byte are as strange to an engine as odd strides.
    return dense if dense.flags.aligned else dense.copy()


def dense_tensor(image: Tensor, channels: int) -> Tensor:
    """The same of a tensor, whose values nobody looks at: that would wait for the GPU.

    Raises:
        InputError: for another shape or type.
    """
    check_shape(tuple(image.shape), channels)
    if dtype_of(image) != "uint8":
        if not image.is_floating_point():
            raise InputError(
                f"picture of dtype {dtype_of(image)} is neither uint8 nor float in [0, 1]",
                hint=CONVERT,
            )
        image = image.float()
    # A picture that is trained through would drag all of its history along.
    return (image if len(image.shape) == 4 else image[None]).contiguous().detach()


def can_be_written(out: Pixels) -> bool:
    """Whether a result can be written there at once; otherwise it is copied there."""
    return out.flags.c_contiguous and out.flags.aligned


def check_shape(shape: tuple[int, ...], channels: int) -> None:
    """Refuse what is no picture, nor a batch of them.

    Raises:
        InputError: naming the shape.
    """
    if len(shape) not in (3, 4) or shape[-1] != channels or 0 in shape:
        raise InputError(
            f"picture of shape {shape} is not (H, W, {channels}) or (N, H, W, {channels})",
            hint="grey pictures are repeated, transparency is left out, and channels come last"
            if channels == 3
            else "",
        )


def writeable(shape: tuple[int, ...], out: object) -> Pixels:
    """An array that is written for a result of this shape.

    Raises:
        InputError: saying what is needed.
    """
    if not isinstance(out, np.ndarray):
        raise InputError(f"out is a {type(out).__name__}", hint="give an array of NumPy")
    if out.shape != shape or out.dtype not in (np.uint8, np.float32) or not out.flags.writeable:
        raise InputError(f"out is {out.dtype}{out.shape}", hint=f"give writeable uint8 or float32 {shape}")
    return out


def check_tensor_out(shape: tuple[int, ...], out: Tensor) -> None:
    """Refuse a tensor that cannot be written for a result of this shape.

    Raises:
        InputError: saying what is needed.
    """
    if tuple(out.shape) != shape or dtype_of(out) not in ("uint8", "float32"):
        raise InputError(f"out is {dtype_of(out)}{tuple(out.shape)}", hint=f"give uint8 or float32 {shape}")


def check_no_capture(device: Device | None) -> None:
    """Refuse a caller who captures a CUDA graph himself: a restore waits for the GPU, and replays a graph.

    Raises:
        InputError: if so.
    """
    if device is not None and device.is_capturing():
        raise InputError(
            "a restorer was called while the caller's stream captures a CUDA graph",
            hint="restore before or after the capture; a restore is a graph of its own",
        )


@contextmanager
def copying(shape: tuple[int, ...], device: Device) -> Iterator[None]:
    """Raises what a GPU says while pictures (N, H, W, C) or (H, W, C) are copied as an error of ours.

    What other threads capture meanwhile does not count.
    """
    from mrs.runtime.cuda.failures import translate_errors

    count, height, width, channels = (1, *shape)[-4:]
    with translate_errors(device, (count, channels, height, width), "while a picture was copied"), device.apart():
        yield


def dtype_of(image: Pixels | Tensor) -> str:
    """Name of an element's type, as NumPy has it."""
    return str(image.dtype).removeprefix("torch.")
