"""Rivals of the tiny plan of all commands' tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.benchmarking.rivals import Rival, rivals

SIZE = (2, 21, 27)


@pytest.fixture
def pictures(photo: Any) -> NDArray[np.uint8]:
    return np.stack([photo(*SIZE[1:]), photo(*SIZE[1:])[::-1]])


@pytest.fixture
def opened(plan: Path, golden: Any) -> Callable[..., AbstractContextManager[list[Rival]]]:
    """`rivals` by their names, of the tiny plan and its checkpoint."""

    def call(*names: str, **options: Any) -> AbstractContextManager[list[Rival]]:
        given = {"plan_path": plan, "checkpoint": golden.weights, "size": SIZE, "threads": 1, **options}
        return partial(rivals, names)(**given)

    return call
