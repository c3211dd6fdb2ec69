"""Weights of small networks, files of them, and how a file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.runtime.errors import CheckpointError

TINY = NAFNet(width=4, enc_blocks=(1,), mid_blocks=1, dec_blocks=(1,))
UNEVEN = NAFNet(width=6, enc_blocks=(2, 0, 3), mid_blocks=2, dec_blocks=(0, 1, 2))

State = dict[str, Tensor]


def weights(arch: NAFNet = TINY, seed: int = 0) -> State:
    torch.manual_seed(seed)
    return {key: torch.randn_like(value) for key, value in ConditionalNAFNet(arch).state_dict().items()}


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def assert_same(got: State, expected: State) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key].dtype == torch.float32
        assert torch.equal(got[key], value.float()), key


def refusal(path: Path) -> str:
    """The error for a file: one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text
