"""Numbers that a caller gives: Python's and NumPy's, but no truth value, which is an int in Python too."""

from __future__ import annotations

from math import isfinite
from numbers import Integral, Real
from typing import TypeGuard

from mrs.runtime.errors import InputError

# Of a value in an error.
LONGEST = 80


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Whether this is a whole number of at least `least`."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def check_whole(name: str, value: object, least: int, most: int | None = None, hint: str = "") -> None:
    """Refuse what is no whole number in a range; `hint` is the error's.

    Raises:
        InputError: naming it.
    """
    if not is_whole(value, least) or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} {shown(value)} is not a whole number {allowed}", hint=hint)


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a number, an infinity or NaN included."""
    return not isinstance(value, bool) and isinstance(value, Real)


def check_number(name: str, value: object, hint: str = "") -> None:
    """Refuse what is no finite number; `hint` is the error's.

    Raises:
        InputError: naming it.
    """
    if not is_number(value) or not isfinite(value):
        raise InputError(f"{name} {shown(value)} is not a number", hint=hint)


def shown(value: object) -> str:
    """A value that a caller gave, for an error: numbers as they are, all else as in a program, and nothing endless."""
    text = str(value) if is_number(value) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
