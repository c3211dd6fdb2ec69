"""How strong a degradation is, from 0, the lightest that a network is trained on, to 1, the heaviest."""

from __future__ import annotations

import numpy as np

from mrs.runtime.errors import InputError


def resolve(severity: float | None, rng: np.random.Generator) -> float:
    """The severity that was asked for, or where none was, one drawn evenly, as training does.

    Raises:
        InputError: where it is outside [0, 1].
    """
    if severity is None:
        return float(rng.random())
    return checked(severity)


def checked(severity: float) -> float:
    """The severity that was asked for.

    Raises:
        InputError: where it is outside [0, 1].
    """
    if not 0 <= severity <= 1:
        raise InputError(f"severity {severity} is outside [0, 1]", hint="give 0 for the lightest, 1 for the heaviest")
    return float(severity)


def between(least: float, most: float, severity: float) -> float:
    """`least` at severity 0, `most` at 1."""
    return least + (most - least) * severity
