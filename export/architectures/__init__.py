"""The networks that can be built. A new one is a folder with the protocol's class, named here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.protocol import Architecture, Conditioner
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.checkpoint import Checkpoint, check_fit, read_checkpoint, some
from mrs.runtime.errors import CheckpointError

# Asked in this order whose weights a checkpoint holds.
ARCHITECTURES: dict[str, type[Architecture]] = {NAFNet.name: NAFNet, ConditionalUNet.name: ConditionalUNet}


def detect(state: Mapping[str, Tensor], source: str = "checkpoint") -> Architecture:
    """The network that a state dict holds the weights of.

    Args:
        state: float32 tensors by their keys.
        source: where it is from, for errors.

    Raises:
        CheckpointError: where it is of no network that is known here, or does not hold all weights of one.
    """
    for kind in ARCHITECTURES.values():
        found = kind.detect(state, source)
        if found is not None:
            check_fit(found.weight_shapes(), state, found.name, source)
            return found
    raise CheckpointError(
        f"{source} is no {', no '.join(ARCHITECTURES)}: it has {some(list(state), 3)}",
        hint="networks of Refusion, IR-SDE and DA-CLIP are supported",
    )


def network_of(arch: Architecture, checkpoint: Checkpoint) -> nn.Module:
    """The network with a checkpoint's weights, in evaluation mode.

    Raises:
        CheckpointError: naming the keys that are missing, left over, of a wrong shape, or not finite numbers.
    """
    check_fit(arch.weight_shapes(), checkpoint.state, arch.name)
    # Without storage first: random numbers are neither spent nor touched.
    with torch.device("meta"):
        net = arch.module()
    net.to_empty(device="cpu").load_state_dict(checkpoint.state)
    return net.eval()


def load_checkpoint(path: str | Path) -> nn.Module:
    """The network in a checkpoint file, in evaluation mode; call it as `net(x, mu, t)`.

    Raises:
        CheckpointError: for a file that is missing, damaged, holds code, or fits no network that is known here.
    """
    checkpoint = read_checkpoint(path)
    return network_of(detect(checkpoint.state, str(path)), checkpoint)


__all__ = ["ARCHITECTURES", "Architecture", "Conditioner", "detect", "load_checkpoint", "network_of"]
