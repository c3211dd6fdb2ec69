"""Pixels of three channels to three planes and back: every element at its place, nothing beyond the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from mrs.kernels.gpu.interleave import join4, load_words, pack_words, split4, store_words, unpack_words
from mrs.kernels.gpu.launch import options

GROUPS = 16
# Elements of one channel in a group of twelve words.
PIXELS = {"uint8": 16, "float16": 8, "bfloat16": 8, "float32": 4}


@triton.jit
def take_apart(source, columns, joined, Q: tl.constexpr):
    at = tl.arange(0, Q)[:, None] * 4 + tl.arange(0, 4)[None, :]
    e0, e1, e2, e3 = split4(tl.load(source + at))
    row = tl.arange(0, Q)
    tl.store(columns + row, e0)
    tl.store(columns + Q + row, e1)
    tl.store(columns + 2 * Q + row, e2)
    tl.store(columns + 3 * Q + row, e3)
    tl.store(joined + at, join4(e0, e1, e2, e3))


@triton.jit(do_not_specialize=["count"])
def move_words(source, target, planes, count, Q: tl.constexpr):
    group = tl.arange(0, Q)
    w0, w1, w2 = load_words(source, group, group < count)
    at = group[:, None] * 4 + tl.arange(0, 4)[None, :]
    tl.store(planes + at, w0)
    tl.store(planes + 4 * Q + at, w1)
    tl.store(planes + 8 * Q + at, w2)
    store_words(target, group, group < count, w0, w1, w2)


@triton.jit(do_not_specialize=["count"])
def move_pixels(source, planes, target, count, Q: tl.constexpr, PIXELS: tl.constexpr):
    group = tl.arange(0, Q)
    DTYPE: tl.constexpr = source.dtype.element_ty
    w0, w1, w2 = load_words(source.to(tl.pointer_type(tl.uint32)), group, group < count)
    a, b, c = unpack_words(w0, w1, w2, DTYPE)
    at = group[:, None] * PIXELS + tl.arange(0, PIXELS)[None, :]
    tl.store(planes + at, a)
    tl.store(planes + Q * PIXELS + at, b)
    tl.store(planes + 2 * Q * PIXELS + at, c)
    w0, w1, w2 = pack_words(a, b, c)
    store_words(target.to(tl.pointer_type(tl.uint32)), group, group < count, w0, w1, w2)


def test_columns_are_taken_apart_and_joined(device: str) -> None:
    source = torch.arange(64, dtype=torch.int32, device=device).view(16, 4)
    columns, joined = (torch.full((4, 16), -1, dtype=torch.int32, device=device) for _ in range(2))
    joined = joined.view(16, 4)
    take_apart[(1,)](source, columns, joined, Q=16, **options(1))
    assert torch.equal(columns, source.T)
    assert torch.equal(joined, source)


@pytest.mark.parametrize("count", [1, 7, GROUPS])
def test_words_are_three_planes_of_groups(device: str, count: int) -> None:
    source = torch.arange(12 * GROUPS, dtype=torch.int32, device=device) + 1
    target = torch.full((12 * (GROUPS + 1),), -1, dtype=torch.int32, device=device)
    planes = torch.full((3, GROUPS, 4), -1, dtype=torch.int32, device=device)
    move_words[(1,)](source, target, planes, count, Q=GROUPS, **options(1))
    # Word 3 g + j of group q is w_j[q, g]; of groups that are not there, 0.
    expected = source.view(GROUPS, 4, 3).permute(2, 0, 1).clone()
    expected[:, count:] = 0
    assert torch.equal(planes, expected)
    assert torch.equal(target[: 12 * count], source[: 12 * count])
    assert (target[12 * count :] == -1).all()


@pytest.mark.parametrize("count", [3, GROUPS])
@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_three_planes(device: str, name: str, count: int) -> None:
    dtype, pixels = getattr(torch, name), PIXELS[name]
    # Every bit counts, those of NaN too.
    random = np.random.default_rng(0).integers(0, 256, 3 * GROUPS * 16 * 4, dtype=np.uint8)
    source = torch.from_numpy(random).to(device).view(dtype)[: 3 * GROUPS * pixels]
    planes = torch.zeros((3, GROUPS * pixels), dtype=dtype, device=device)
    target = torch.full((3 * (GROUPS + 1) * pixels,), 77, dtype=dtype, device=device)
    move_pixels[(1,)](source, planes, target, count, Q=GROUPS, PIXELS=pixels, **options(1))
    there = 3 * count * pixels
    as_bytes = [array.contiguous().view(torch.uint8) for array in (planes[:, : count * pixels], source[:there])]
    expected = source[:there].view(-1, 3).T.contiguous().view(torch.uint8)
    assert torch.equal(as_bytes[0], expected)
    assert torch.equal(target[:there].view(torch.uint8), as_bytes[1])
    assert (target[there:] == 77).all()
