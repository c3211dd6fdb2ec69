"""Networks take heights and widths of whole multiples; nothing is padded further than to the next."""

from __future__ import annotations

import pytest

from mrs.runtime.padding import padded_size


@pytest.mark.parametrize(
    ("height", "width", "multiple", "padded"),
    [(1, 1, 1, (1, 1)), (1, 16, 16, (16, 16)), (17, 15, 16, (32, 16)), (7, 13, 5, (10, 15))],
)
def test_each_side_is_raised_to_the_next_multiple(
    height: int, width: int, multiple: int, padded: tuple[int, int]
) -> None:
    assert padded_size(height, width, multiple) == padded
