"""Three planes to and from interleaved pixels, moved 16 bytes at a time.

Whatever the type of an element, pixels of three channels fall into groups of 12 words of 32 bits (4 pixels of float32,
8 of half precision, 16 of bytes), which are three accesses of 16 bytes. Words (Q, 4) named w0, w1, w2 hold word
3 g + j of group q as wj[q, g].
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def split4(w):
    """(Q, 4) to its four columns."""
    even, odd = tl.split(tl.reshape(w, (w.shape[0], 2, 2)))
    e0, e2 = tl.split(even)
    e1, e3 = tl.split(odd)
    return e0, e1, e2, e3


@triton.jit
def join4(e0, e1, e2, e3):
    """Four (Q,) to (Q, 4)."""
    return tl.reshape(tl.join(tl.join(e0, e2), tl.join(e1, e3)), (e0.shape[0], 4))


@triton.jit
def chunks(group):
    """Offsets (Q, 4, 4) in words of the groups (Q,): chunk, then word; the fourth chunk belongs to the next group."""
    within = tl.arange(0, 4)[:, None] * 4 + tl.arange(0, 4)[None, :]
    return group[:, None, None] * 12 + within[None, :, :]


@triton.jit
def inside(mask):
    """Mask (Q, 4, 4) for `chunks` from a mask (Q,) of groups."""
    return mask[:, None, None] & (tl.arange(0, 4) < 3)[None, :, None]


@triton.jit
def load_words(words, group, mask):
    """Groups of a uint32 array as w0, w1, w2; 0 where masked."""
    loaded = tl.load(words + chunks(group), mask=inside(mask), other=0)
    c0, c1, c2, _ = split4(tl.reshape(tl.permute(loaded, (0, 2, 1)), (group.shape[0] * 4, 4)))
    Q: tl.constexpr = group.shape[0]
    f0, f1, f2, f3 = split4(tl.reshape(c0, (Q, 4)))
    f4, f5, f6, f7 = split4(tl.reshape(c1, (Q, 4)))
    f8, f9, f10, f11 = split4(tl.reshape(c2, (Q, 4)))
    return join4(f0, f3, f6, f9), join4(f1, f4, f7, f10), join4(f2, f5, f8, f11)


@triton.jit
def store_words(words, group, mask, w0, w1, w2):
    """The inverse of `load_words`."""
    f0, f3, f6, f9 = split4(w0)
    f1, f4, f7, f10 = split4(w1)
    f2, f5, f8, f11 = split4(w2)
    c0 = join4(f0, f1, f2, f3)
    c1 = join4(f4, f5, f6, f7)
    c2 = join4(f8, f9, f10, f11)
    Q: tl.constexpr = group.shape[0]
    joined = tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c1)), (Q, 4, 4))
    tl.store(words + chunks(group), tl.permute(joined, (0, 2, 1)), mask=inside(mask))


@triton.jit
def two(low, high):
    """Words from pairs of 16-bit values."""
    return low.to(tl.uint16, bitcast=True).to(tl.uint32) | (high.to(tl.uint16, bitcast=True).to(tl.uint32) << 16)


@triton.jit
def pack_words(a, b, c):
    """Three planes (Q, pixels of a group) of one type to words."""
    BITS: tl.constexpr = a.dtype.primitive_bitwidth
    Q: tl.constexpr = a.shape[0]
    if BITS == 32:
        w0, w1, w2 = a.to(tl.uint32, bitcast=True), b.to(tl.uint32, bitcast=True), c.to(tl.uint32, bitcast=True)
    elif BITS == 16:
        a0, a1 = tl.split(tl.reshape(a, (Q, 4, 2)))
        b0, b1 = tl.split(tl.reshape(b, (Q, 4, 2)))
        c0, c1 = tl.split(tl.reshape(c, (Q, 4, 2)))
        w0, w1, w2 = two(a0, b0), two(c0, a1), two(b1, c1)
    else:
        a0, a1, a2, a3 = _fours(a.to(tl.uint32), Q)
        b0, b1, b2, b3 = _fours(b.to(tl.uint32), Q)
        c0, c1, c2, c3 = _fours(c.to(tl.uint32), Q)
        w0 = a0 | (b0 << 8) | (c0 << 16) | (a1 << 24)
        w1 = b1 | (c1 << 8) | (a2 << 16) | (b2 << 24)
        w2 = c2 | (a3 << 8) | (b3 << 16) | (c3 << 24)
    return w0, w1, w2


@triton.jit
def _fours(a, Q: tl.constexpr):
    even, odd = tl.split(tl.reshape(a, (Q, 4, 2, 2)))
    e0, e2 = tl.split(even)
    e1, e3 = tl.split(odd)
    return e0, e1, e2, e3


@triton.jit
def unpack_words(w0, w1, w2, dtype: tl.constexpr):
    """Words to three planes (Q, pixels of a group) of a type: the inverse of `pack_words`."""
    Q: tl.constexpr = w0.shape[0]
    if dtype.primitive_bitwidth == 32:
        a, b, c = w0.to(dtype, bitcast=True), w1.to(dtype, bitcast=True), w2.to(dtype, bitcast=True)
    elif dtype.primitive_bitwidth == 16:
        a = tl.reshape(tl.join(_half(w0, 0, dtype), _half(w1, 16, dtype)), (Q, 8))
        b = tl.reshape(tl.join(_half(w0, 16, dtype), _half(w2, 0, dtype)), (Q, 8))
        c = tl.reshape(tl.join(_half(w1, 0, dtype), _half(w2, 16, dtype)), (Q, 8))
    else:
        a = _bytes(w0, 0, w0, 24, w1, 16, w2, 8, Q)
        b = _bytes(w0, 8, w1, 0, w1, 24, w2, 16, Q)
        c = _bytes(w0, 16, w1, 8, w2, 0, w2, 24, Q)
    return a, b, c


@triton.jit
def _half(w, shift: tl.constexpr, dtype: tl.constexpr):
    return (w >> shift).to(tl.uint16).to(dtype, bitcast=True)


@triton.jit
def _bytes(u, i: tl.constexpr, v, j: tl.constexpr, w, k: tl.constexpr, x, n: tl.constexpr, Q: tl.constexpr):
    joined = tl.join(tl.join(u >> i, w >> k), tl.join(v >> j, x >> n))
    return tl.reshape((joined & 0xFF).to(tl.uint8), (Q, 16))
