"""UniPC: a multistep predictor, and a corrector that uses the next evaluation, at no extra cost.

Source: arXiv 2302.04867, algorithms 1-2 and 5-8 (multistep). After the network has been evaluated at the predicted
state x, the corrector repeats the last step with that newest prediction added. Both states come from the same earlier
state with the same factor, so that their difference is a sum of predictions alone: the corrected state never exists,
its difference is added to the next row. The last state is only predicted.

B(h) is h (`unipc-b1`) or e^h - 1 (`unipc-b2`). It counts where the paper does not solve its order conditions: in the
predictor of order 2 and in the corrector of order 1, whose one coefficient is 1/2. Everywhere else B(h) cancels and the
weights are those of the polynomial.
"""

from __future__ import annotations

import math

from mrs.numerics.methods.multistep import history_weights, kept_state
from mrs.numerics.methods.step import Step, Weights, clean_prediction, weighted


def unipc_b1(step: Step) -> Weights:
    """UniPC with B(h) = h."""
    return _unipc(step, 1)


def unipc_b2(step: Step) -> Weights:
    """UniPC with B(h) = e^h - 1."""
    return _unipc(step, 2)


def _unipc(step: Step, variant: int) -> Weights:
    correction = _correction(step.previous, variant) if step.index else [0.0]
    if step.endless:
        end = clean_prediction(step)
        state, predictor = end.state, [end.b0]
    else:
        state, predictor = kept_state(step), _predictor(step, variant)
    return weighted(step, state, _add([state * weight for weight in correction], predictor))


def _predictor(step: Step, variant: int) -> list[float]:
    """UniP: weights of q0, q1, ..."""
    if step.order != 2:
        return history_weights(step, step.history(step.order))
    constant = history_weights(step, step.history(1))[0]
    slope = _half_b(step, variant) * step.h / step.h_prev
    return [constant + slope, -slope]


def _correction(step: Step, variant: int) -> list[float]:
    """UniC less UniP of a step: weights of the prediction at its end, then of q0, q1, ..."""
    if step.order == 1:
        constant = history_weights(step, step.history(1))[0]
        slope = _half_b(step, variant)
        corrector = [slope, constant - slope]
    else:
        corrector = history_weights(step, [step.index + 1, *step.history(step.order)])
    return _add(corrector, [0.0, *(-weight for weight in _predictor(step, variant))])


def _half_b(step: Step, variant: int) -> float:
    """B(h) / 2 with its factor: a_t or -s_t, and h negative for a data prediction."""
    h = -step.h if step.data else step.h
    return -(step.a_t if step.data else step.s_t) * (h if variant == 1 else math.expm1(h)) / 2


def _add(one: list[float], other: list[float]) -> list[float]:
    length = max(len(one), len(other))
    one, other = (part + [0.0] * (length - len(part)) for part in (one, other))
    return [a + b for a, b in zip(one, other, strict=True)]
