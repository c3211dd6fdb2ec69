"""A recipe that trains in a moment, and what tests ask of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mrs.export.architectures.nafnet import NAFNet
from mrs.runtime.errors import InputError
from mrs.training import train
from mrs.training.train import Recipe

RECIPE = Recipe(arch=NAFNet(4, (1,), 1, (1,)), iterations=9, batch=2, patch=16, bf16=False, seed=1)


def interrupt_at(iteration: int) -> Any:
    def report(row: dict[str, Any]) -> None:
        if row["iteration"] == iteration:
            raise KeyboardInterrupt

    return report


def state_of(output: Path) -> dict[str, Any]:
    return torch.load(output.with_name(output.name + ".state"), weights_only=True)


def refusal(*arguments: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        train.train(*arguments, **options)
    assert "\n" not in str(caught.value)
    return caught.value
