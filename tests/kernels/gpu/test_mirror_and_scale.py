"""The margin holds the picture's reflection, what is made to fit has the bits of its specification, and nothing else
is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.kernels import gpu, update
from mrs.kernels.gpu import reference
from mrs.kernels.gpu.mirror import launch
from mrs.kernels.gpu.scale import Tables, launches
from mrs.kernels.scaling import CLIP, STRETCH, Fit, fit_of

pytestmark = pytest.mark.slow(11)

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


# Types and sizes have nothing to do with each other: every type at one size, and every size in one type.
@pytest.mark.parametrize(
    ("dtype", "name"), [(dtype, "both") for dtype in DTYPES] + [(DTYPES[-1], name) for name in SIZES if name != "both"]
)
@pytest.mark.parametrize("channels_last", [False, True], ids=["planes", "last"])
def test_the_margin_is_the_references(device: str, dtype: Any, channels_last: bool, name: str) -> None:
    size, padded = SIZES[name]
    packed, whole = memory(device, (2, 6, *padded), dtype, channels_last)
    expected = packed.float().cpu().numpy().copy()
    reference.mirror(expected, size)
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


# Pictures that are made to fit

# (H, W) and the side: smaller and larger pictures, single lines, sizes of several programs and of less than one.
CASES = {
    "larger": ((31, 17), 8),
    "smaller": ((5, 7), 18),
    "as large": ((8, 8), 8),
    "high": ((90, 6), 7),
    "wide": ((6, 91), 7),
    "one line": ((1, 40), 5),
    "one pixel": ((1, 1), 3),
    "one is made": ((9, 4), 1),
    "several programs": ((31, 23), 17),
}
GUARD = 32


class Memory:
    """A picture in the midst of NaN, or of 77, its tables, and poisoned memory for what is made of it."""

    def __init__(
        self, device: str, size: tuple[int, int], side: int, resize: str, kind: str, channels: int = 3
    ) -> None:
        self.device, self.whole = device, {}
        self.fit = fit_of(*size, side, resize)
        values = np.random.default_rng(1).integers(0, 256, (1, *size, channels), np.uint8)
        values[..., ::2, :] //= 9
        self.given = values if kind == "uint8" else 1.2 * (values / np.float32(255)) - np.float32(0.1)
        if kind == "float32" and resize == STRETCH:
            self.given = values / np.float32(255)
        self.picture = self.array("picture", self.given.shape, getattr(torch, kind))
        self.picture.copy_(torch.from_numpy(self.given))
        self.tables = tables_on(self.fit, device)
        lines = torch.uint8 if self.fit.levels else torch.float32
        self.lines = self.array("lines", (channels, self.fit.height, side), lines)
        self.target = self.array("target", (1, channels, side, side), torch.float32)

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        count = int(np.prod(shape))
        poison = float("nan") if dtype.is_floating_point else 77
        self.whole[name] = torch.full((count + 2 * GUARD,), poison, dtype=dtype, device=self.device)
        return self.whole[name][GUARD : GUARD + count].view(shape)

    def given_to(self) -> tuple[Any, ...]:
        return self.picture, 0, self.fit, self.tables, self.lines, self.target


def tables_on(fit: Fit, device: str) -> Tables:
    arrays = (fit.columns.first, fit.columns.weights, fit.rows.first, fit.rows.weights)
    return Tables(*(torch.from_numpy(each).to(device) for each in arrays))


def bits(tensor: Any) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).cpu().numpy())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("resize", [STRETCH, CLIP])
def test_what_fits_is_the_references_to_the_bit(device: str, resize: str, kind: str, name: str) -> None:
    memory = Memory(device, *CASES[name], resize, kind)
    expected = np.empty(tuple(memory.target.shape), np.float32)
    reference.scale(memory.given, 0, memory.fit, expected)
    picture = bits(memory.whole["picture"])
    gpu.scale(*memory.given_to())
    np.testing.assert_array_equal(memory.target.cpu().numpy(), expected)
    assert bits(memory.whole["picture"]) == picture
    for whole in memory.whole.values():
        for guard in (whole[:GUARD], whole[-GUARD:]):
            assert bool(torch.isnan(guard).all() if guard.is_floating_point() else (guard == 77).all())


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_of_what_fits_are_counted(device: str, channels: int) -> None:
    memory = Memory(device, (13, 9), 6, CLIP, "uint8", channels)
    expected = np.empty(tuple(memory.target.shape), np.float32)
    reference.scale(memory.given, 0, memory.fit, expected)
    gpu.scale(*memory.given_to())
    np.testing.assert_array_equal(memory.target.cpu().numpy(), expected)


def test_each_picture_of_a_batch_is_made_to_fit(device: str) -> None:
    memory = Memory(device, (13, 9), 6, CLIP, "uint8")
    batch = np.stack([memory.given[0], 255 - memory.given[0], memory.given[0] // 3])
    expected = np.empty(tuple(memory.target.shape), np.float32)
    for number in (2, 0, 1):
        reference.scale(batch, number, memory.fit, expected)
        gpu.scale(torch.from_numpy(batch).to(device), number, *memory.given_to()[2:])
        np.testing.assert_array_equal(memory.target.cpu().numpy(), expected)


def test_rows_that_are_not_seen_are_not_read(device: str) -> None:
    """Of a picture that is high the middle: there are no NaN in it."""
    memory = Memory(device, (90, 6), 7, CLIP, "float32")
    top, bottom = memory.fit.top, memory.fit.top + memory.fit.height
    assert top > 0
    assert bottom < 90
    expected = np.empty(tuple(memory.target.shape), np.float32)
    reference.scale(memory.given, 0, memory.fit, expected)
    memory.picture[:, :top] = float("nan")
    memory.picture[:, bottom:] = float("nan")
    gpu.scale(*memory.given_to())
    np.testing.assert_array_equal(memory.target.cpu().numpy(), expected)


def test_arrays_that_do_not_fit_together_are_refused(device: str) -> None:
    memory = Memory(device, (13, 9), 6, CLIP, "uint8")
    pictures, number, fit, tables, lines, target = memory.given_to()
    rounded = tables._replace(row_weights=tables.row_weights.float())
    refused = {
        r"^pictures is \(13, 9, 3\); expected \(N, H, W, C\)": (pictures[0], number, fit, tables, lines, target),
        "^pictures is .*; expected uint8 or float32": (pictures.half(), number, fit, tables, lines, target),
        "^pictures has strides": (pictures.transpose(1, 2), number, fit_of(9, 13, 6, CLIP), tables, lines, target),
        "^picture 1 is not one of 1": (pictures, 1, fit, tables, lines, target),
        "^a picture of 2x9 with 3 channels is not the one": (pictures[:, :2], number, fit, tables, lines, target),
        "^weights of columns is": (pictures, number, fit_of(13, 15, 6, STRETCH), tables, lines, target),
        "^weights of rows is": (pictures, number, fit, rounded, lines, target),
        "^columns is": (pictures, number, fit, tables._replace(columns=tables.columns[:3]), lines, target),
        "^lines is": (pictures, number, fit, tables, lines.float(), target),
        "^target is": (pictures, number, fit, tables, lines, target.half()),
        "^target is on meta": (pictures, number, fit, tables, lines, target.to("meta")),
        "overlap$": (pictures, number, fit, tables, pictures.flatten()[: lines.numel()].view(lines.shape), target),
    }
    for message, given in refused.items():
        with pytest.raises(ValueError, match=message) as caught:
            launches(*given)
        assert "\n" not in str(caught.value)
