"""A solver as a table: a row of eleven weights for each step, which is all that a kernel knows of a solver.

    q0 = cx x + cm mu + cf f,  clamped where the table says so
    q0 = q0 + m (q1 - q0)
    x' = ax x + am mu + b0 q0 + b1 q1 + b2 q2 + b3 q3 + n z

x is the state, mu the degraded picture, f the network's output, q0 the prediction made from it, q1 to q3 the three
predictions before as they were kept, z standard normal noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# What may be done to a prediction, in the order of the kernels' numbers; see `mrs.kernels.update.step`.
CLAMPS = ("none", "unit", "threshold")


class Row(NamedTuple):
    """The weights of one step, as above. Where a weight after b0 is 0, what it multiplies is not read."""

    cx: float
    cm: float
    cf: float
    ax: float
    am: float
    b0: float
    b1: float = 0.0
    b2: float = 0.0
    b3: float = 0.0
    n: float = 0.0
    m: float = 0.0

    @property
    def history(self) -> int:
        """How many older predictions this step reads, 0 to 3, counted to the oldest."""
        return 3 if self.b3 else 2 if self.b2 else 1 if self.b1 or self.m else 0


@dataclass(frozen=True)
class Table:
    """All that a runtime needs to know of schedule and solver.

    Attributes:
        times: the times visited, `len(rows) + 1`, never rising; the network is evaluated at all but the last.
        rows: one per network evaluation.
        start: standard deviation of the first x less mu.
        clamp: what is done to q0 before it is used and kept: `none`, `unit` or `threshold`, see `CLAMPS`.
    """

    times: tuple[float, ...]
    rows: tuple[Row, ...]
    start: float
    clamp: str

    @property
    def draws(self) -> int:
        """Number of noise draws after x_T's; draw i belongs to row i."""
        return sum(row.n != 0 for row in self.rows)

    @property
    def history(self) -> int:
        """How many predictions must be remembered, 0 to 3."""
        return max((row.history for row in self.rows), default=0)

    def first(self, steps: int) -> Table:
        """Its first steps alone."""
        return Table(self.times[: steps + 1], self.rows[:steps], self.start, self.clamp)
