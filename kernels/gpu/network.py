"""The network's arrays inside a kernel where their channels lie last: three of output, six of input."""

from __future__ import annotations

import triton
import triton.language as tl

from mrs.kernels.gpu.interleave import load_words, pack_words, store_words, two, unpack_words


@triton.jit
def groups_of(tile, area, PIXELS: tl.constexpr, SIZE: tl.constexpr):
    """Numbers in their plane of the interleaved groups, PIXELS pixels each, of a tile of SIZE pixels; and a mask."""
    group = tile * (SIZE // PIXELS) + tl.arange(0, SIZE // PIXELS)
    return group, group < area // PIXELS


@triton.jit
def load_output(output, image, area, tile, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    """Three float32 tiles (GROUPS, GROUP) from (N, H', W', 3) of any floating type."""
    DTYPE: tl.constexpr = output.dtype.element_ty
    PIXELS: tl.constexpr = 128 // DTYPE.primitive_bitwidth
    group, mask = groups_of(tile, area, PIXELS, GROUPS * GROUP)
    words = (output + image * area * 3).to(tl.pointer_type(tl.uint32))
    w0, w1, w2 = load_words(words, group, mask)
    a, b, c = unpack_words(w0, w1, w2, DTYPE)
    return (
        tl.reshape(a, (GROUPS, GROUP)).to(tl.float32),
        tl.reshape(b, (GROUPS, GROUP)).to(tl.float32),
        tl.reshape(c, (GROUPS, GROUP)).to(tl.float32),
    )


@triton.jit
def store_input(packed, image, area, tile, d0, d1, d2, m0, m1, m2):
    """x - mu and mu, float32 tiles of three channels each, to (N, H', W', 6) of any floating type."""
    DTYPE: tl.constexpr = packed.dtype.element_ty
    SIZE: tl.constexpr = d0.shape[0] * d0.shape[1]
    words = (packed + image * area * 6).to(tl.pointer_type(tl.uint32))
    if DTYPE.primitive_bitwidth == 16:
        group, mask = groups_of(tile, area, 4, SIZE)
        w0 = tl.reshape(two(d0.to(DTYPE), d1.to(DTYPE)), (SIZE // 4, 4))
        w1 = tl.reshape(two(d2.to(DTYPE), m0.to(DTYPE)), (SIZE // 4, 4))
        w2 = tl.reshape(two(m1.to(DTYPE), m2.to(DTYPE)), (SIZE // 4, 4))
    else:
        # A pixel is two triples, so that twelve words are two pixels.
        group, mask = groups_of(tile, area, 2, SIZE)
        w0, w1, w2 = pack_words(_pairs(d0, m0, SIZE), _pairs(d1, m1, SIZE), _pairs(d2, m2, SIZE))
    store_words(words, group, mask, w0, w1, w2)


@triton.jit
def _pairs(d, m, SIZE: tl.constexpr):
    return tl.reshape(tl.join(d, m), (SIZE // 2, 4))
