"""The methods that take fitted weights, with each of their orders."""

from __future__ import annotations

from mrs.numerics.methods import METHODS

# What takes weights: one evaluation for each time of the grid, no noise, no momentum.
TAKERS = [
    (method, order)
    for method, facts in METHODS.items()
    for order in facts.orders
    if facts.times == "grid" and not facts.stochastic and facts.option != "momentum"
]
