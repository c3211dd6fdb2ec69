"""Whole numbers that a caller gives: Python's and NumPy's, but no truth value, which is an int in Python too."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from mrs.runtime.errors import InputError


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Whether this is a whole number of at least `least`."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number in a range.

    Raises:
        InputError: naming it.
    """
    if not is_whole(value, least) or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} {value} is not a whole number {allowed}")
