"""Published networks with all that they were given, for graphs and modules alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.unet.module import UNet
from tests.golden.networks import weights

Load = Callable[[str], UNet]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The network of a name, loaded once."""
    folder: Path = tmp_path_factory.mktemp("networks")
    loaded: dict[str, UNet] = {}

    def load(name: str) -> UNet:
        if name not in loaded:
            net = load_checkpoint(weights(f"{name}.pth", folder))
            assert isinstance(net, UNet)
            loaded[name] = net
        return loaded[name]

    return load
