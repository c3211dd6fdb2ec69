"""Standard normal noise inside a kernel: the Philox words of kernels/noise.py, normals within 1e-6 of its own.

Logarithm, sine and cosine are polynomials, fitted so that all 2^24 arguments together stay within that bound: the
library's sine has a slow path through local memory, and the approximations of the hardware are wrong by 1e-6 and more.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def normals(key, draw, image, channel, row, column, GROUP: tl.constexpr):
    """Noise for runs of GROUP columns of a window.

    Args:
        key: uint32 pointer to seed, number of the window's first picture, y and x of its corner: see `tables.key`.
        draw, image, channel: scalars below 2^31; image counts from the window's first.
        row, column: (T, 1) int32, of the window; every column a multiple of 4.
        GROUP: a multiple of 4.

    Returns:
        (T, GROUP) float32.
    """
    seed = tl.load(key, eviction_policy="evict_last").to(tl.uint64) | (draw.to(tl.uint64) << 32)
    image += tl.load(key + 1, eviction_policy="evict_last")
    y = tl.load(key + 2, eviction_policy="evict_last") + row.to(tl.uint32)
    corner = tl.load(key + 3, eviction_policy="evict_last")
    four = (corner >> 2) + (column.to(tl.uint32) >> 2) + tl.arange(0, GROUP // 4)[None, :].to(tl.uint32)
    z0, z1, z2, z3 = four_normals(seed, four, y, channel, image)
    # A window whose corner is no multiple of 4 has its fours across two of the picture's.
    shift = corner & 3
    if shift != 0:
        n0, n1, n2, _ = four_normals(seed, four + 1, y, channel, image)
        s0 = tl.where(shift == 1, z1, tl.where(shift == 2, z2, z3))
        s1 = tl.where(shift == 1, z2, tl.where(shift == 2, z3, n0))
        s2 = tl.where(shift == 1, z3, tl.where(shift == 2, n0, n1))
        z3 = tl.where(shift == 1, n0, tl.where(shift == 2, n1, n2))
        z0, z1, z2 = s0, s1, s2
    z = tl.join(tl.join(z0, z2), tl.join(z1, z3))
    return tl.reshape(z, (z0.shape[0], GROUP))


@triton.jit
def four_normals(seed, four, y, channel, image):
    """The normals of the columns 4 four .. 4 four + 3."""
    w0, w1, w2, w3 = tl.philox(seed, four, y, channel, image)
    z0, z1 = box_muller(w0, w1)
    z2, z3 = box_muller(w2, w3)
    return z0, z1, z2, z3


@triton.jit
def box_muller(first, second):
    """Two normals from two words, of which the upper 24 bits count."""
    u = ((first >> 8) + 1).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08
    radius = tl.sqrt_rn(-2.0 * log_unit(u))
    # The angle as a whole number of quarter turns and a rest within an eighth of a turn, which is exact.
    turn = (second >> 8).to(tl.int32)
    quarter = (turn + 0x200000) >> 22
    a = (turn - (quarter << 22)).to(tl.float32) * 5.9604644775390625e-08
    s = a * a
    sine = a * (6.28318529 + s * (-41.34166263 + s * (81.59255354 + s * -75.40206782)))
    cosine = 1.0 + s * (-19.73920879 + s * (64.93937169 + s * (-85.44916194 + s * 59.43670672)))
    odd = (quarter & 1) != 0
    one = tl.where(odd, sine, cosine)
    other = tl.where(odd, cosine, sine)
    one = tl.where(((quarter + 1) & 2) != 0, -one, one)
    other = tl.where((quarter & 2) != 0, -other, other)
    return radius * one, radius * other


@triton.jit
def log_unit(u):
    """Natural logarithm of u in (0, 1], relative error below 1e-7: u = 2^e (1 + t), 1 + t in [sqrt(1/2), sqrt(2))."""
    bits = u.to(tl.int32, bitcast=True)
    e = (bits - 0x3F3504F3) >> 23
    t = (bits - (e << 23)).to(tl.float32, bitcast=True) - 1.0
    # log(1 + t) = t - t^2/2 + t^3 p(t)
    p = 0.1276155 + t * -0.0763443
    p = -0.13160195 + t * p
    p = 0.14201762 + t * p
    p = -0.16623356 + t * p
    p = 0.20001227 + t * p
    p = -0.25000821 + t * p
    p = 0.33333332 + t * p
    # ln 2 in two parts: e times the first is exact.
    exponent = e.to(tl.float32)
    square = t * t
    return exponent * 0.693145751953125 + (t - (0.5 * square - (t * square * p + exponent * 1.428606765330187e-06)))
