"""One step of any solver, as eleven weights: the only thing that a kernel knows of a solver.

    q0 = cx x + cm mu + cf f,  clamped where the table says so
    q0 = q0 + m (q1 - q0)
    x' = ax x + am mu + b0 q0 + b1 q1 + b2 q2 + b3 q3 + n z

x is the state, mu the degraded picture, f the network's output, q0 the prediction made from it, q1 to q3 the three
predictions before as they were kept, z standard normal noise.
"""

from __future__ import annotations

from typing import NamedTuple


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
