"""The arrays that `step`, `finish` and `threshold` read alike, checked before a launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrs.kernels.gpu.arrays import FLOATS, Geometry, check, check_apart, check_dense, is_channels_last
from mrs.kernels.gpu.tables import FIELDS

if TYPE_CHECKING:
    from torch import Tensor

F32 = FLOATS[:1]


def check_step(
    geometry: Geometry,
    x: Tensor,
    mu: Tensor,
    output: Tensor,
    history: Tensor | None,
    records: Tensor,
    key: Tensor | None,
    bounds: Tensor | None,
    index: int,
    **written: Tensor,
) -> bool:
    """Check what a row needs, and that nothing overlaps it or the arrays `written`.

    Returns:
        Whether the network has its channels last.

    Raises:
        ValueError: for an array of another shape, type or layout, arrays that overlap, or a row that is not there.
    """
    device = x.device
    check_dense("x", x, geometry.state, F32, device)
    check_dense("mu", mu, geometry.state, F32, device)
    check("output", output, geometry.state, FLOATS, device)
    if history is not None:
        if len(history.shape) != 5 or len(history) > 3:
            expected = ", ".join(map(str, geometry.state))
            raise ValueError(f"history is {tuple(history.shape)}; expected (slots, {expected}), at most 3 slots")
        check_dense("history", history, (len(history), *geometry.state), F32, device)
    channels_last = is_channels_last("output", output)
    if "packed" in written:
        channels_last = check_input(geometry, written["packed"], str(output.dtype), channels_last, device)
    check_tables(records, key, device)
    if not 0 <= index < len(records) - 1:
        raise ValueError(f"row {index} is not one of {len(records) - 1}")
    if bounds is not None:
        check_dense("bounds", bounds, (geometry.images,), F32, device)
    check_apart({"x": x, "mu": mu, "output": output, "history": history, "records": records, "key": key,
                 "bounds": bounds, **written})  # fmt: skip
    return channels_last


def check_input(geometry: Geometry, packed: Tensor, dtype: str, channels_last: bool, device: object) -> bool:
    """Check the network's input; `channels_last` is the output's layout.

    Returns:
        Whether the network has its channels last. A single channel lies in both layouts alike: then the input tells.

    Raises:
        ValueError: for another shape, type or layout.
    """
    images, channels, padded_height, padded_width = geometry.state
    check("packed", packed, (images, 2 * channels, padded_height, padded_width), (dtype,), device)
    input_channels_last = is_channels_last("packed", packed)
    if input_channels_last != channels_last and channels > 1:
        raise ValueError("packed and output must have the same layout, both as planes or both with channels last")
    return input_channels_last


def check_tables(records: Tensor, key: Tensor | None, device: object) -> None:
    """Check the tables in device memory.

    Raises:
        ValueError: for another shape or type.
    """
    check_dense("records", records, (max((1, *records.shape[:1])), FIELDS), F32, device)
    if key is not None:
        check_dense("key", key, (4,), ("torch.uint32",), device)
