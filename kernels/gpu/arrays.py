"""Checks of arrays before a launch. Nothing is written before everything was checked.

Arrays are torch tensors, or whatever has their `shape`, `dtype`, `stride()`, `data_ptr()` and `device`; torch itself is
not needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = ("torch.float32", "torch.float16", "torch.bfloat16")
PICTURES = ("torch.uint8", "torch.float32")
PLANES = 65535  # the most that the second dimension of a grid can hold
WIDE_BYTES = 16  # of the widest access that one thread makes


@dataclass(frozen=True)
class Geometry:
    """Sizes of a launch.

    Attributes:
        images, channels: of the batch.
        height, width: of the picture.
        padded_height, padded_width: of a plane in memory, the picture's padded to the network's multiple.
    """

    images: int
    channels: int
    height: int
    width: int
    padded_height: int
    padded_width: int

    @classmethod
    def of(cls, x: Tensor, size: tuple[int, int]) -> Geometry:
        """From a state (N, C, H', W') and the picture's (H, W).

        Raises:
            ValueError: for another shape, a picture that does not fit, or more than a launch can number.
        """
        if len(x.shape) != 4 or not all(x.shape):
            raise ValueError(f"x is {tuple(x.shape)}; expected (N, C, H', W'), none of them 0")
        images, channels, padded_height, padded_width = x.shape
        height, width = size
        if not (0 < height <= padded_height and 0 < width <= padded_width):
            raise ValueError(
                f"a picture of {height}x{width} does not fit into the state's {padded_height}x{padded_width}"
            )
        # Offsets within the planes of a picture are 32 bits.
        if 2 * channels * padded_height * padded_width >= 2**31:
            raise ValueError(
                f"{2 * channels} planes of {padded_height}x{padded_width} have more than 2^31 elements; use tiles"
            )
        if images * channels > PLANES:
            raise ValueError(f"{images * channels} planes are more than {PLANES}; use smaller batches")
        return cls(images, channels, height, width, padded_height, padded_width)

    @property
    def state(self) -> tuple[int, int, int, int]:
        """Shape of a state, of a prediction, of the network's output."""
        return self.images, self.channels, self.padded_height, self.padded_width

    @property
    def picture(self) -> tuple[int, int, int, int]:
        """Shape of pictures."""
        return self.images, self.height, self.width, self.channels


def check(name: str, array: Tensor, shape: Sequence[int], dtypes: Sequence[str], device: object) -> None:
    """Refuse an array that a kernel would read or write wrongly.

    Raises:
        ValueError: naming what was given and what is expected.
    """
    if tuple(array.shape) != tuple(shape) or str(array.dtype) not in dtypes:
        kinds = " or ".join(dtypes).replace("torch.", "")
        given = f"{str(array.dtype).removeprefix('torch.')}{tuple(array.shape)}"
        raise ValueError(f"{name} is {given}; expected {kinds}{tuple(shape)}")
    if array.device != device:
        raise ValueError(f"{name} is on {array.device}, the state on {device}")


def check_dense(name: str, array: Tensor, shape: Sequence[int], dtypes: Sequence[str], device: object) -> None:
    """As `check`, for an array without gaps in the order of its dimensions.

    Raises:
        ValueError: naming what was given and what is expected.
    """
    check(name, array, shape, dtypes, device)
    if not _has_order(array, range(len(shape))):
        raise ValueError(f"{name} has strides {tuple(array.stride())}; expected dense {tuple(shape)}")


def is_channels_last(name: str, array: Tensor) -> bool:
    """Whether a network's array (N, C, H', W') has its channels last in memory; with one channel, False.

    Raises:
        ValueError: for one that has its channels neither last nor as planes.
    """
    if _has_order(array, (0, 1, 2, 3)):
        return False
    if _has_order(array, (0, 2, 3, 1)):
        return True
    raise ValueError(f"{name} has strides {tuple(array.stride())}; expected dense planes or dense with channels last")


def _has_order(array: Tensor, order: Sequence[int]) -> bool:
    expected = 1
    for dimension in reversed(order):
        # The stride of a dimension of 1 means nothing.
        if array.shape[dimension] != 1 and array.stride()[dimension] != expected:
            return False
        expected *= array.shape[dimension]
    return True


def check_apart(arrays: dict[str, Tensor | None]) -> None:
    """Refuse arrays of which two share memory.

    Raises:
        ValueError: naming the two.
    """
    spans = sorted(
        (array.data_ptr(), array.numel() * array.element_size(), name)
        for name, array in arrays.items()
        if array is not None and array.numel()
    )
    for (address, size, name), (following, _, other) in pairwise(spans):
        if address + size > following:
            raise ValueError(f"{name} and {other} overlap")


def is_wide(*arrays: Tensor) -> bool:
    """Whether every array begins where accesses of 16 bytes may begin."""
    return all(array.data_ptr() % WIDE_BYTES == 0 for array in arrays)
