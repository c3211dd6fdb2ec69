"""What is known of a value of a graph, and checks of it that all operators share."""

from __future__ import annotations

from typing import NamedTuple

from mrs.runtime.onnx_guard.model import FLOAT32

Sides = tuple[int, ...]


class Value(NamedTuple):
    """What is known of a value.

    Attributes:
        type: of its elements.
        sides: those that a graph leaves open as `graph.OPEN` has them.
        fixed: whether it is a weight, or made of weights alone.
        numbers: its elements, where it is a weight of whole numbers or the sides of another value.
    """

    type: int
    sides: Sides
    fixed: bool = False
    numbers: tuple[int, ...] = ()


def check(fits: bool, what: str = "inputs that do not fit") -> None:
    """Refuse a node whose inputs do not fit.

    Raises:
        ValueError: saying what is wrong, where it does not.
    """
    if not fits:
        raise ValueError(what)


def picture(value: Value) -> Sides:
    """The sides of a float32 value that is computed: four of them."""
    check(value.type == FLOAT32 and not value.fixed and len(value.sides) == 4)
    return value.sides


def weight(value: Value, rank: int) -> Sides:
    """The sides of a float32 value that is not computed."""
    check(value.type == FLOAT32 and value.fixed and len(value.sides) == rank)
    return value.sides
