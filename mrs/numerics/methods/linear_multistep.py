"""Linear multistep methods with constant coefficients, and with heavy-ball momentum.

Sources: PNDM (arXiv 2202.09778, eq. 12), iPNDM (arXiv 2204.13902, appendix H): the noise prediction is replaced by its
Adams-Bashforth combination and then transferred as DDIM does, y_t = (a_t/a_u) y_u + a_t (s_t/a_t - s_u/a_u) eps'.
GHVB (arXiv 2307.11528, section 4): the predictions are first averaged, v0 = (1 - m) q0 + m v1, and coefficients are
chosen so that the order is kept; with m = 0 they are Adams-Bashforth's.

The coefficients are those of equal steps of s/a. Where steps differ smoothly, the order is at most 2 whatever the
number of predictions; on equal steps of s/a it is the full one. A data prediction is transferred by its own linear
part, with coefficients of equal steps of a/s.
"""

from __future__ import annotations

from math import comb

import numpy as np

from mrs.numerics.methods.step import Step, Weights, weighted

# Mean of K^p for K with P(K = k) = (1 - m) m^k, the age of a prediction in the average; p = 0..3.
AGES = (
    lambda m: 1.0,
    lambda m: m / (1 - m),
    lambda m: m * (1 + m) / (1 - m) ** 2,
    lambda m: m * (1 + 4 * m + m**2) / (1 - m) ** 3,
)


def linear_multistep(step: Step) -> Weights:
    """One step of order 1-4, with the run's momentum."""
    m = step.run.momentum
    transferred = step.a_t - step.kept * step.a_u if step.data else step.s_t - step.kept * step.s_u
    b = [transferred * weight for weight in coefficients(step.order, m)]
    return weighted(step, step.kept, b, momentum=m if step.index else 0.0)


def coefficients(order: int, momentum: float = 0.0) -> list[float]:
    """Weights of v0, v1, ... that integrate polynomials of degree order - 1 exactly over a unit step."""
    # v_j is the mean of the prediction at -(K + j); binomial expansion of its p-th power.
    ages = np.array([age(momentum) for age in AGES[:order]])
    powers = [
        [(-1) ** p * sum(comb(p, i) * ages[i] * j ** (p - i) for i in range(p + 1)) for j in range(order)]
        for p in range(order)
    ]
    wanted = [1 / (p + 1) for p in range(order)]
    solution: list[float] = np.linalg.solve(np.array(powers, dtype=np.float64), wanted).tolist()
    return solution
