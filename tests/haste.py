"""Builds that measure as little as they can, for tests that look at all but the measured times."""

from __future__ import annotations

import pytest


def measure_little(monkeypatch: pytest.MonkeyPatch, reference_steps: int) -> None:
    """One round for each candidate, and few steps for the solution that all are compared with."""
    for module in ("timing", "variants"):
        monkeypatch.setattr(f"mrs.export.autotune.{module}.SECONDS", 0.0)
        monkeypatch.setattr(f"mrs.export.autotune.{module}.ROUNDS", (1, 1))
    monkeypatch.setattr("mrs.building.loops.REFERENCE_STEPS", reference_steps)
