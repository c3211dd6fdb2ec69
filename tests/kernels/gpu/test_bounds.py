"""A row that clamps by the threshold without one gives NaN, which a restore finds at its end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrs.kernels import gpu
from mrs.kernels.table import Row, Table


@pytest.mark.parametrize(("clamp", "finite"), [("none", True), ("unit", True), ("threshold", False)])
def test_a_threshold_that_is_missing_is_nan(device: str, clamp: str, finite: bool) -> None:
    row = Row(0.5, 0.25, 0.25, 0.5, 0.25, 0.25)
    records = torch.from_numpy(gpu.records(Table((2.0, 1.0, 0.0), (row, row), 0.2, clamp))).to(device)
    key = torch.from_numpy(gpu.key(0)).to(device)
    x, mu, output = (torch.rand(1, 3, 8, 8).to(device) for _ in range(3))
    packed = torch.empty(1, 6, 8, 8, device=device)
    gpu.step(x, mu, output, torch.empty(0, 1, 3, 8, 8, device=device), packed, records, key, None, 0, (8, 8))
    assert np.isfinite(x.cpu().numpy()).all() == finite
