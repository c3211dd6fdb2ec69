"""The margin holds the picture's reflection, and nothing else is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.kernels import gpu, update
from mrs.kernels.gpu.mirror import launch
from mrs.kernels.gpu.reference import mirror as reference

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# (H, W), (H', W'): a margin on both sides, on one, of more than one program, and pictures smaller than it.
SIZES = {
    "both": ((5, 7), (8, 8)),
    "beside": ((8, 5), (8, 16)),
    "below": ((3, 8), (8, 8)),
    "several programs": ((19, 61), (32, 64)),
    "to and fro": ((2, 3), (16, 16)),
    "one line": ((1, 6), (16, 16)),
    "one pixel": ((1, 1), (4, 4)),
}


def memory(device: str, shape: tuple[int, ...], dtype: Any, channels_last: bool) -> tuple[Any, Any]:
    """Random numbers in the midst of NaN, and all of the memory."""
    count = int(np.prod(shape))
    whole = torch.full((count + 64,), float("nan"), dtype=dtype, device=device)
    flat = whole[32 : 32 + count]
    flat.copy_(torch.from_numpy(np.random.default_rng(0).normal(size=count)))
    images, channels, height, width = shape
    if channels_last:
        return flat.view(images, height, width, channels).permute(0, 3, 1, 2), whole
    return flat.view(shape), whole


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("channels_last", [False, True], ids=["planes", "last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_margin_is_the_references(device: str, dtype: Any, channels_last: bool, name: str) -> None:
    size, padded = SIZES[name]
    packed, whole = memory(device, (2, 6, *padded), dtype, channels_last)
    expected = packed.float().cpu().numpy().copy()
    reference(expected, size)
    gpu.mirror(packed, size)
    np.testing.assert_array_equal(packed.float().cpu().numpy(), expected)
    assert bool(torch.isnan(whole[:32]).all())
    assert bool(torch.isnan(whole[-32:]).all())


def test_without_a_margin_nothing_is_launched(device: str) -> None:
    packed, _ = memory(device, (1, 6, 4, 8), torch.float32, False)
    assert launch(packed, (4, 8)) is None
    gpu.mirror(packed, (4, 8))


@pytest.mark.parametrize("size", [(0, 4), (9, 4), (4, 9)], ids=str)
def test_a_picture_that_does_not_fit_is_refused(device: str, size: tuple[int, int]) -> None:
    packed, _ = memory(device, (1, 6, 8, 8), torch.float32, False)
    with pytest.raises(ValueError, match="does not fit"):
        gpu.mirror(packed, size)


def test_arrays_that_are_none_of_a_networks_are_refused(device: str) -> None:
    packed, _ = memory(device, (1, 6, 8, 8), torch.float32, False)
    with pytest.raises(ValueError, match=r"packed is float64\(1, 6, 8, 8\); expected"):
        gpu.mirror(packed.double(), (4, 4))
    with pytest.raises(ValueError, match="packed has strides"):
        gpu.mirror(packed.transpose(2, 3), (4, 4))


@pytest.mark.parametrize(("size", "padded"), [((5, 7), (8, 8)), ((9, 9), (16, 16)), ((8, 12), (8, 16))], ids=str)
def test_the_specification_is_what_torch_does(size: tuple[int, int], padded: tuple[int, int]) -> None:
    """`F.pad(mode="reflect")` is what the published networks call."""
    packed = np.random.default_rng(0).random((2, 6, *padded), np.float32)
    inside = torch.from_numpy(packed[..., : size[0], : size[1]].copy())
    pads = (0, padded[1] - size[1], 0, padded[0] - size[0])
    update.mirror(packed, size)
    np.testing.assert_array_equal(packed, torch.nn.functional.pad(inside, pads, mode="reflect").numpy())


def test_what_torch_refuses_goes_on_to_and_fro() -> None:
    assert update.reflected(3, 9).tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert update.reflected(2, 5).tolist() == [0, 1, 0, 1, 0]
    assert update.reflected(1, 3).tolist() == [0, 0, 0]
