"""Standard normal noise as a pure function of (seed, draw, image, channel, y, x): the reference.

Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3") keyed by (seed, draw) and counted
by (x // 4, y, channel, image) gives four 32-bit words, one for each of four neighbours in x; Box-Muller turns the
words of two neighbours into two normals. So a tile, a batch or another device draws the same numbers as the whole
picture. Draw 0 is x_T's, draw i + 1 belongs to row i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.seeds import SEEDS

Words = NDArray[np.uint64]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


class Draw(NamedTuple):
    """One field of noise and the place of a window in it; every number is 0 to 2^32 - 1.

    Attributes:
        seed: of a restore.
        number: 0 is x_T's, i + 1 belongs to row i.
        origin: (y, x) of the window's corner in the whole picture.
        image: number of the window's first picture in the whole batch.
    """

    seed: int
    number: int
    origin: tuple[int, int] = (0, 0)
    image: int = 0

    def normal(self, shape: tuple[int, int, int, int]) -> NDArray[np.float32]:
        """The window's noise, of `shape` (N, C, H, W); errors as of `normal` below."""
        return normal(self.seed, self.number, shape, origin=self.origin, image=self.image)

    def check(self) -> None:
        """Refuse what does not fit Philox's words: cut to 32 bits, it would silently give another picture's noise.

        Raises:
            ValueError: for a number outside 0 to 2^32 - 1.
        """
        numbers = (self.seed, self.number, self.image, *self.origin)
        if min(numbers) < 0 or max(numbers) >= SEEDS:
            raise ValueError(
                f"seed {self.seed}, draw {self.number}, origin {self.origin} or image {self.image}"
                " is outside 0 to 2^32 - 1"
            )


def normal(
    seed: int, draw: int, shape: tuple[int, int, int, int], *, origin: tuple[int, int] = (0, 0), image: int = 0
) -> NDArray[np.float32]:
    """Noise for a window of a batch of pictures.

    Args:
        seed: 0 to 2^32 - 1, as are all numbers below.
        draw: 0 is x_T's.
        shape: (N, C, H, W) of the window.
        origin: (y, x) of the window's corner in the whole picture.
        image: number of the window's first picture in the whole batch.

    Returns:
        (N, C, H, W) float32, computed in float64 and rounded once.

    Raises:
        ValueError: for a seed, draw, origin or image outside its range.
    """
    Draw(seed, draw, origin, image).check()
    count, channels, height, width = shape
    first, last = origin[1] // 4, (origin[1] + width + 3) // 4
    x, y, c, n = np.ix_(*(np.arange(low, high, dtype=np.uint64) for low, high in (
        (first, last), (origin[0], origin[0] + height), (0, channels), (image, image + count)
    )))  # fmt: skip
    words = philox(np.broadcast_arrays(x, y, c, n), (seed, draw))
    z = np.stack([*box_muller(words[0], words[1]), *box_muller(words[2], words[3])])
    # (lane, x // 4, y, channel, image) -> (image, channel, y, x)
    rows = z.transpose(4, 3, 2, 1, 0).reshape(count, channels, height, 4 * (last - first))
    start = origin[1] - 4 * first
    return np.ascontiguousarray(rows[..., start : start + width]).astype(np.float32)


def philox(counter: Sequence[Words], key: tuple[int, int]) -> Words:
    """Philox4x32-10: four words for each counter, each below 2^32 (held as uint64, so that products fit)."""
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = (part & mask for part in counter)
    k0, k1 = map(int, key)
    for _ in range(ROUNDS):
        p0, p1 = np.uint64(MULTIPLIERS[0]) * c0, np.uint64(MULTIPLIERS[1]) * c2
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ np.uint64(k0), p1 & mask, (p0 >> shift) ^ c3 ^ np.uint64(k1), p0 & mask
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def box_muller(first: Words, second: Words) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two normals from two words, of which the upper 24 bits count: u in (0, 1], v in [0, 1)."""
    u = ((first >> np.uint64(8)) + np.uint64(1)).astype(np.float64) * 2.0**-24
    v = (second >> np.uint64(8)).astype(np.float64) * 2.0**-24
    radius = np.sqrt(-2.0 * np.log(u))
    return radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)
