"""What the kernels read from device memory instead of arguments, so that another seed or table needs no new capture.

Records are float32 (1 + steps, 16). Record 0 belongs to `start`, record i + 1 to row i: a record's number is the number
of its noise draw too. Columns: the eleven weights of `Row` in its order, the clamp, whether the prediction is kept,
zeros. In record 0 only n counts, the standard deviation of x_T - mu.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.noise import Draw
from mrs.kernels.table import CLAMPS, Row, Table

FIELDS = 16
CLAMP, KEEP = len(Row._fields), len(Row._fields) + 1


def records(table: Table) -> NDArray[np.float32]:
    """The records of a table, to be copied to the device.

    Raises:
        ValueError: for a clamp that there is not.
    """
    if table.clamp not in CLAMPS:
        raise ValueError(f"clamp {table.clamp!r} is not one of {', '.join(CLAMPS)}")
    made = np.zeros((1 + len(table.rows), FIELDS), np.float32)
    made[0, Row._fields.index("n")] = table.start
    made[0, Row._fields.index("ax")] = 1.0
    for index, row in enumerate(table.rows):
        made[index + 1, : len(row)] = row
        made[index + 1, CLAMP] = CLAMPS.index(table.clamp)
    # As the kernels will see them: a weight that rounds to 0 in float32 reads nothing.
    seen = [Row._make(map(float, record[: len(Row._fields)])) for record in made[1:]]
    for index in range(len(seen)):
        made[index + 1, KEEP] = _is_read(seen[index + 1 :])
    return made


def _is_read(later: list[Row]) -> bool:
    """Whether the rows that follow a step read its prediction."""
    wanted = [(row.b1 or row.m, row.b2, row.b3)[place] for place, row in enumerate(later[:3])]
    return any(wanted)


def key(seed: int, *, image: int = 0, origin: tuple[int, int] = (0, 0)) -> NDArray[np.uint32]:
    """What the noise depends on besides draw, channel and place, uint32 (4,): seed, image, y, x.

    Args:
        seed: 0 to 2^32 - 1, as are the others.
        image: number of the first picture in the whole batch.
        origin: (y, x) of the window's corner in the whole picture.

    Raises:
        ValueError: for a number outside its range.
    """
    Draw(seed, 0, origin, image).check()
    return np.array([seed, image, *origin], np.uint32)
