"""Pictures (N, H, W, 3) of bytes or floats inside a kernel, whole groups at a time."""

from __future__ import annotations

import triton
import triton.language as tl

from mrs.kernels.gpu.interleave import load_words, pack_words, store_words, unpack_words


@triton.jit
def group_of(picture):
    """Pixels of a group of twelve words: 16 of bytes, 4 of floats."""
    return 128 // picture.dtype.element_ty.primitive_bitwidth


@triton.jit
def words_of(picture, image, tile, height, picture_groups, runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    """A tile's part of a picture: its words, the numbers of its groups in the picture, and which of them are there."""
    PIXELS: tl.constexpr = 128 // picture.dtype.element_ty.primitive_bitwidth
    PARTS: tl.constexpr = GROUP // PIXELS
    part = tile * (GROUPS * PARTS) + tl.arange(0, GROUPS * PARTS)
    row = part // (runs * PARTS)
    column = part - row * (runs * PARTS)
    words = (picture + image.to(tl.int64) * height * picture_groups * (3 * PIXELS)).to(tl.pointer_type(tl.uint32))
    return words, row * picture_groups + column, (row < height) & (column < picture_groups)


@triton.jit
def load_picture(picture, image, tile, height, picture_groups, runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    """Three tiles (GROUPS, GROUP) of the picture's type, 0 outside it.

    Args:
        picture_groups: groups in a line of the picture.
        runs: runs of GROUP pixels in a line of the state.
    """
    words, group, mask = words_of(picture, image, tile, height, picture_groups, runs, GROUPS, GROUP)
    w0, w1, w2 = load_words(words, group, mask)
    a, b, c = unpack_words(w0, w1, w2, picture.dtype.element_ty)
    return tl.reshape(a, (GROUPS, GROUP)), tl.reshape(b, (GROUPS, GROUP)), tl.reshape(c, (GROUPS, GROUP))


@triton.jit
def store_picture(
    picture, image, tile, height, picture_groups, runs, v0, v1, v2, GROUPS: tl.constexpr, GROUP: tl.constexpr
):
    """The inverse of `load_picture`."""
    PIXELS: tl.constexpr = 128 // picture.dtype.element_ty.primitive_bitwidth
    Q: tl.constexpr = GROUPS * GROUP // PIXELS
    words, group, mask = words_of(picture, image, tile, height, picture_groups, runs, GROUPS, GROUP)
    w0, w1, w2 = pack_words(tl.reshape(v0, (Q, PIXELS)), tl.reshape(v1, (Q, PIXELS)), tl.reshape(v2, (Q, PIXELS)))
    store_words(words, group, mask, w0, w1, w2)
