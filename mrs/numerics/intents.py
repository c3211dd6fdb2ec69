"""Solver settings by what the pictures are for: `mrs-trt build --quality NAME`.

The fewer of a sampler's random numbers reach the picture, the nearer it comes to the mean of all pictures that the
degraded one may have been: more PSNR, a little less grain. Which settings do what was measured with the shipped weights
over several seeds, by PSNR and by metrics of perception (`benchmarks.noise_scales`; docs/solvers.md has the tables).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mrs.numerics.solver import RECOMMENDED, Solver


@dataclass(frozen=True)
class Intent:
    """Settings and what they are for.

    Attributes:
        solver: the settings.
        purpose: whom they serve, in a few words.
    """

    solver: Solver
    purpose: str


INTENTS: dict[str, Intent] = {
    "faithful": Intent(
        replace(RECOMMENDED, steps=10, start_noise=0.0), "nearest to the truth; the same picture whatever the seed"
    ),
    "balanced": Intent(RECOMMENDED, "the default: within a tenth of a decibel of faithful at half its evaluations"),
    "vivid": Intent(
        replace(RECOMMENDED, noise_scale=1.0, start_noise=1.0), "a sample with its grain, another for each seed"
    ),
}
