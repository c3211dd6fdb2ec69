"""Whether a network's output holds infinities or NaN. One launch, which reads it once and as a rule writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from mrs.kernels.gpu.arrays import FLOATS, WIDE_BYTES, check, check_apart, check_dense, is_channels_last, is_wide
from mrs.kernels.gpu.launch import Launch

if TYPE_CHECKING:
    from torch import Tensor

GROUPS, WARPS = 128, 4


@triton.jit(do_not_specialize=["runs"])
def audit_values(values, status, runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    """A program for each GROUPS runs of GROUP values, wherever in the picture they lie."""
    run = (tl.program_id(0) * GROUPS + tl.arange(0, GROUPS))[:, None]
    at = run.to(tl.int64) * GROUP + tl.arange(0, GROUP)[None, :]
    size = tl.abs(tl.load(values + at, mask=run < runs, other=0.0).to(tl.float32))
    # The comparison is false for NaN.
    finite = size < float("inf")
    if tl.sum(tl.ravel(tl.where(finite, 0, 1)), 0) != 0:
        # An atomic operation, by which reports tell it from what is stored of each value.
        tl.atomic_xchg(status, 1, sem="relaxed")


def audit(values: Tensor, status: Tensor) -> None:
    """Set `status` to 1 where a value is infinite or NaN; otherwise leave it.

    Args:
        values: (N, C, H', W') float32, float16 or bfloat16, as planes or with channels last, such as a network's
            output. A state that is not finite makes every later output so: the network averages over the picture.
        status: (1,) int32.

    Two arrays must not share memory. Everything is on one device, and nothing waits for it.

    Raises:
        ValueError: for an array of another shape, type or layout, or arrays that overlap.
    """
    launch(values, status).run()


def launch(values: Tensor, status: Tensor) -> Launch:
    """`audit`, checked and ready to run."""
    if len(values.shape) != 4 or not all(values.shape):
        raise ValueError(f"values is {tuple(values.shape)}; expected (N, C, H', W'), none of them 0")
    check("values", values, tuple(values.shape), FLOATS, values.device)
    is_channels_last("values", values)
    check_dense("status", status, (1,), ("torch.int32",), values.device)
    check_apart({"values": values, "status": status})
    group = WIDE_BYTES // values.element_size()
    if values.numel() % group or not is_wide(values):
        group = 1
    runs = values.numel() // group
    if runs >= 2**31:
        raise ValueError(f"{values.numel()} values are more than a launch can number; use smaller batches")
    constants = {"GROUPS": GROUPS, "GROUP": group}
    return Launch(audit_values, (-(-runs // GROUPS), 1), (values, status, runs), constants, WARPS)
