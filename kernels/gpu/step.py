"""One row of a table: read the network's output, update the state, write the next network input. One launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from mrs.kernels.gpu.arguments import check_step
from mrs.kernels.gpu.arrays import WIDE_BYTES, Geometry, is_wide
from mrs.kernels.gpu.launch import Launch, Shape, launch_of_planes
from mrs.kernels.gpu.network import load_output, store_input
from mrs.kernels.gpu.tile import advance, in_picture, place, weight

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit(
    do_not_specialize=["index", "slots", "channels", "height", "width", "runs", "padded_height", "padded_width"]
)
def step_planes(
    x, mu, output, history, packed, records, key, bounds,
    index, slots, channels, height, width, runs, padded_height, padded_width,
    CHANNELS_LAST: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each plane; a network with its channels last in single elements."""
    if EXACT:
        padded_width = runs * GROUP
    area = padded_height.to(tl.int64) * padded_width
    plane = tl.program_id(1)
    image, channel = plane // channels, plane % channels
    row, column, offset, mask = place(tl.program_id(0), runs, padded_height, padded_width, GROUPS, GROUP, EXACT)
    at = plane * area + offset
    size = tl.num_programs(1) * area
    if CHANNELS_LAST:
        # Within a picture 32 bits suffice; with more there are not enough registers.
        from_output = image * area * channels + (offset * channels + channel)
        to_packed = image * area * (2 * channels) + (offset * (2 * channels) + channel)
    else:
        from_output = at
        to_packed = (image * channels + plane) * area + offset
    f = tl.load(output + from_output, mask=mask, other=0.0).to(tl.float32)
    total, m, q0 = advance(
        x, mu, history, records, key, bounds,
        f, at, mask, size, index, slots, image, channel, row, column, GROUP,
    )  # fmt: skip
    seen = in_picture(row, column, height, width, GROUP)
    store_state(x, history, records, index, slots, size, at, mask, seen, total, q0)
    tl.store(packed + to_packed, tl.where(seen, total - m, 0.0).to(packed.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["index", "slots", "height", "width", "runs", "padded_height"])
def step_pixels(
    x, mu, output, history, packed, records, key, bounds,
    index, slots, height, width, runs, padded_height,
    GROUPS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each picture of three channels, which the network has last; the width is exact."""
    padded_width = runs * GROUP
    area = padded_height.to(tl.int64) * padded_width
    tile, image = tl.program_id(0), tl.program_id(1)
    row, column, offset, mask = place(tile, runs, padded_height, padded_width, GROUPS, GROUP, True)
    size = tl.num_programs(1) * 3 * area
    f0, f1, f2 = load_output(output, image, area, tile, GROUPS, GROUP)
    at0 = image * 3 * area + offset
    at1, at2 = at0 + area, at0 + 2 * area
    x0, m0, q0 = advance(
        x, mu, history, records, key, bounds, f0, at0, mask, size, index, slots, image, 0, row, column, GROUP
    )
    x1, m1, q1 = advance(
        x, mu, history, records, key, bounds, f1, at1, mask, size, index, slots, image, 1, row, column, GROUP
    )
    x2, m2, q2 = advance(
        x, mu, history, records, key, bounds, f2, at2, mask, size, index, slots, image, 2, row, column, GROUP
    )
    seen = in_picture(row, column, height, width, GROUP)
    store_state(x, history, records, index, slots, size, at0, mask, seen, x0, q0)
    store_state(x, history, records, index, slots, size, at1, mask, seen, x1, q1)
    store_state(x, history, records, index, slots, size, at2, mask, seen, x2, q2)
    store_input(
        packed, image, area, tile,
        tl.where(seen, x0 - m0, 0.0), tl.where(seen, x1 - m1, 0.0), tl.where(seen, x2 - m2, 0.0), m0, m1, m2,
    )  # fmt: skip


@triton.jit
def store_state(x, history, records, index, slots, size, at, mask, seen, total, q0):
    """The new state, and the prediction where a later row reads it; zero outside the picture."""
    # Another thread may have read what this one overwrites: q3's slot is q0's.
    tl.debug_barrier()
    tl.store(x + at, tl.where(seen, total, 0.0), mask=mask)
    if weight(records, index + 1, 12) != 0.0:
        tl.store(history + (index % slots).to(tl.int64) * size + at, tl.where(seen, q0, 0.0), mask=mask)


def step(
    x: Tensor,
    mu: Tensor,
    output: Tensor,
    history: Tensor,
    packed: Tensor,
    records: Tensor,
    key: Tensor,
    bounds: Tensor | None,
    index: int,
    size: tuple[int, int],
) -> None:
    """One row of a table on a batch: convert the output, update the state in place, write the next network input.

    Args:
        x: (N, C, H', W') float32, the state, updated in place; H' x W' is the picture's H x W padded for the network.
        mu: (N, C, H', W') float32, zero outside H x W.
        output: (N, C, H', W') float32, float16 or bfloat16, what the network gave, as planes or with channels last.
        history: (slots, N, C, H', W') float32, the predictions kept; step i keeps its own in slot i mod slots, where a
            later row reads it. As many slots as `tables.slots` says; may be empty.
        packed: (N, 2C, H', W'), the network's next input, of output's type and layout: x - mu in the first C channels,
            zero outside H x W. Of mu's channels nothing is changed.
        records: (1 + steps, 16) float32, see `tables.records`.
        key: (4,) uint32, see `tables.key`.
        bounds: (N,) float32 from `threshold`, read where the record's clamp is `threshold`; otherwise may be None.
            Where it is None all the same, the prediction is NaN.
        index: of the row, from 0.
        size: (H, W).

    Two arrays must not share memory. Everything is on one device, and nothing waits for it.

    Raises:
        ValueError: for an array of another shape, type or layout, or arrays that overlap.
    """
    launch(x, mu, output, history, packed, records, key, bounds, index, size).run()


def launch(
    x: Tensor,
    mu: Tensor,
    output: Tensor,
    history: Tensor,
    packed: Tensor,
    records: Tensor,
    key: Tensor,
    bounds: Tensor | None,
    index: int,
    size: tuple[int, int],
) -> Launch:
    """`step`, checked and ready to run."""
    geometry = Geometry.of(x, size)
    channels_last = check_step(geometry, x, mu, output, history, records, key, bounds, index, packed=packed)
    arrays = (x, mu, output, history, packed, records, key, x if bounds is None else bounds)
    slots = max(1, len(history))
    group = WIDE_BYTES // output.element_size()
    if (
        channels_last
        and geometry.channels == 3
        and geometry.padded_width % group == 0
        and is_wide(x, mu, output, history, packed)
    ):
        shape = Shape.of_pictures(geometry, group, each=4)
        numbers = (index, slots, geometry.height, geometry.width, shape.runs, geometry.padded_height)
        return Launch(step_pixels, shape.grid, (*arrays, *numbers), dict(shape.constants), shape.warps)
    return launch_of_planes(step_planes, geometry, channels_last, output, *arrays, index, slots)
