"""What is kept of solvers stays found when a solver gets a setting."""

from __future__ import annotations

from benchmarks.solvers import key_of
from mrs.numerics.solver import Solver


def test_a_row_from_before_a_setting_has_its_default() -> None:
    now = {"name": "posterior", "solver": Solver("posterior", 1).to_dict()}
    before = {**now, "solver": {key: value for key, value in now["solver"].items() if key != "noise_scale"}}
    assert key_of(before) == key_of(now)
    other = {**now, "solver": Solver("posterior", 1, noise_scale=0.5).to_dict()}
    assert key_of(other) != key_of(now)
