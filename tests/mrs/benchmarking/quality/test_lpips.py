"""LPIPS is that of the package `lpips`, on weights that are drawn here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mrs.benchmarking.quality import lpips
from mrs.runtime.errors import CheckpointError
from tests.mrs.benchmarking.quality.examples import pair


def weights() -> dict[str, Tensor]:
    """In the order of `lpips.LPIPS(net="alex").state_dict()`, whose heads have two names each."""
    random = np.random.default_rng(1)
    state = {}
    for key, shape in lpips.SHAPES.items():
        fan = np.prod(shape[1:])
        for name, size, inputs in (("weight", shape, fan), ("bias", shape[:1], 1)):
            drawn = random.standard_normal(size, np.float32) * np.float32(np.sqrt(2 / inputs))
            state[f"{key}.{name}"] = torch.from_numpy(drawn)
    for prefix in ("lin{}", "lins.{}"):
        for i, shape in enumerate(lpips.SHAPES.values()):
            drawn = np.abs(random.standard_normal((1, shape[0], 1, 1), np.float32))
            # One parameter under two names: the last one drawn counts.
            state[f"{prefix.format(i)}.model.1.weight"] = state[f"lin{i}.model.1.weight"] = torch.from_numpy(drawn)
    return state


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lpips") / "lpips.pth"
    torch.save(weights(), made)
    return made


def test_the_distance_is_that_of_the_published_package(path: Path) -> None:
    score = lpips.read(path)
    noisy, clean = pair()
    # By lpips 0.1.4 with torchvision 0.28.0, on these weights.
    assert score(noisy, clean) == pytest.approx({"lpips": 0.03408002853393555}, rel=1e-4)
    assert score(clean, clean) == {"lpips": 0}


def test_other_weights_are_refused(path: Path, tmp_path: Path) -> None:
    state = torch.load(path, weights_only=True)
    cases = {
        "net.slice2.3.bias": (None, "the file lacks it"),
        "lin4.model.1.weight": (torch.zeros(1, 192, 1, 1), r"the file has \(1, 192, 1, 1\)"),
    }
    for key, (value, said) in cases.items():
        changed = {name: tensor for name, tensor in state.items() if name != key}
        torch.save(changed if value is None else {**changed, key: value}, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match=f"{key} is .*, {said}") as error:
            lpips.read(tmp_path / "other.pth")
        assert "lpips.LPIPS(net='alex')" in error.value.hint
    with pytest.raises(CheckpointError, match="does not exist"):
        lpips.read(tmp_path / "none.pth")
