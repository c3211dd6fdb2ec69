"""A small checkpoint, and builds of it that take next to no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mrs
from mrs.building.build import build
from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.nafnet import NAFNet
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.plan import Plan
from tests.random_nafnet import random_nafnet

ARCH = NAFNet(4, (1, 1), 1, (1, 1))
SCHEDULE = Schedule(max_sigma=30.0, T=50)
SOLVER = Solver(steps=3)
FORMS = ["moments-weights", "length-weights"]
METADATA = {"schedule": SCHEDULE.to_dict(), "output": "data", "recipe": {"degradation": "rain"}}


def state(arch: NAFNet = ARCH) -> dict[str, torch.Tensor]:
    """Weights that all matter, and give pictures that are neither black nor white."""
    return random_nafnet(arch).state_dict()


def quickly(weights: Path | str, path: Path, **options: Any) -> Plan:
    """Build for the backend that compiles fastest."""
    return build(
        weights,
        path,
        **{"size": (8, 8), "solver": SOLVER, "backend": "onnxruntime", "threads": 1, "overwrite": True, **options},
    )


def by_torch(
    weights: Path, picture: NDArray[np.uint8], schedule: Schedule, output: str, solver: Solver = SOLVER
) -> NDArray[np.float32]:
    net = load_checkpoint(weights)

    def denoise(x: NDArray[Any], mu: NDArray[Any], t: float) -> NDArray[Any]:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    mu = np.ascontiguousarray((picture[None] / np.float32(255)).transpose(0, 3, 1, 2))
    return mrs.sample(denoise, mu, tableau(schedule, solver, output), seed=4)[0].transpose(1, 2, 0)
