"""No time without a right result: each kernel is compared with its reference before it is timed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.cases import Arrays, Case, arguments, launches, small
from mrs.kernels.gpu import reference

# What a case writes, by the place among its arguments.
WRITTEN = {
    "start": {"mu": 1, "x": 2, "packed": 3},
    "step": {"x": 0, "history": 3, "packed": 4},
    "finish": {"result": 4},
    "threshold": {"bounds": 5},
    "audit": {"status": 1},
}
# Noise within 1e-6, in terms of the largest weights here; half precision rounds once, and an interpreter may cut off.
ABSOLUTE = 5e-6
RELATIVE = {torch.float32: 2e-6, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7, torch.int32: 0.0}
Numbers = NDArray[np.float32 | np.int32 | np.uint8]


class GateError(Exception):
    """A kernel's result is wrong."""


def check(case: Case, device: str) -> None:
    """Compare a case with the reference, on small pictures.

    Raises:
        GateError: where they differ.
    """
    case = small(case)
    arrays = Arrays(case, device)
    if case.kernel == "start":
        # Nothing of these may stay.
        for array in (arrays.mu, arrays.x, arrays.packed):
            array.fill_(float("nan"))
    _compare_all(case, arrays)
    if case.kernel == "audit":
        # So far it had nothing to find, and found nothing.
        arrays.output[-1, -1, -1, -1] = float("nan")
        _compare_all(case, arrays)


def _compare_all(case: Case, arrays: Arrays) -> None:
    """Run a case and the reference on copies; compare what they wrote."""
    given = arguments(case, arrays)
    expected = [_numpy(value) if isinstance(value, torch.Tensor) else value for value in given]
    for launch in launches(case, arrays):
        launch.run()
    getattr(reference, case.kernel)(*expected)
    for name, place in WRITTEN[case.kernel].items():
        compare(f"{case.name}: {name}", given[place], expected[place])


def compare(name: str, given: torch.Tensor, expected: Numbers) -> None:
    """Compare an array with what the reference wrote.

    Raises:
        GateError: where they differ by more than rounding.
    """
    ours = _numpy(given).astype(np.float64)
    difference = np.abs(ours - expected.astype(np.float64))
    if given.dtype == torch.uint8:
        # Noise may lie on either side of a half.
        right = (difference <= 1) & (np.mean(difference > 0) < 1e-3)
    else:
        right = difference <= ABSOLUTE + RELATIVE[given.dtype] * np.abs(expected)
    if not np.all(right):
        worst = np.unravel_index(np.argmax(~right), right.shape)
        place = tuple(map(int, worst))
        raise GateError(
            f"{name} is wrong in {np.mean(~right):.2%} of its numbers, "
            f"such as {ours[place]:.7g} at {place}; expected {float(expected[place]):.7g}"
        )


def _numpy(tensor: torch.Tensor) -> Numbers:
    """A copy, float32 where the type is a floating one."""
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy().copy()
