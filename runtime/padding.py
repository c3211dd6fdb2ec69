"""The size that a network takes instead of a picture's own."""

from __future__ import annotations


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Height and width, each raised to the next multiple of what the network takes."""
    return _raised(height, multiple), _raised(width, multiple)


def _raised(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
