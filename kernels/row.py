"""One step of any solver, as nine weights: the only thing that a kernel knows of a solver.

    q0 = cx x + cm mu + cf f
    x' = ax x + am mu + b0 q0 + b1 q1 + b2 q2 + n z

x is the state, mu the degraded picture, f the network's output, q0 the prediction made from it, q1 and q2 the two
predictions before, z standard normal noise.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """The weights of one step, as above. Where b1, b2 or n is 0, what it multiplies is not read."""

    cx: float
    cm: float
    cf: float
    ax: float
    am: float
    b0: float
    b1: float = 0.0
    b2: float = 0.0
    n: float = 0.0

    @property
    def history(self) -> int:
        """How many older predictions this step reads: 0, 1 or 2."""
        return 2 if self.b2 else 1 if self.b1 else 0
