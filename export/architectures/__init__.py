"""The networks that can be built. A new one is a folder with the protocol's class, named here."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import torch
from torch import Tensor, nn

from mrs.export.architectures import clip, latent_unet, nafnet
from mrs.export.architectures.protocol import Architecture, Conditioner
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.checkpoint import Checkpoint, check_fit, read_checkpoint, some
from mrs.runtime.errors import CheckpointError, InputError

# Asked in this order whose weights a checkpoint holds.
KINDS: tuple[type[Architecture], ...] = (*nafnet.KINDS, ConditionalUNet)
ARCHITECTURES: dict[str, type[Architecture]] = {kind.name: kind for kind in KINDS}
# Weights of a network that Refusion's code knows and none of its settings uses.
DIT = {"patch_embed.proj.weight", "t_embedder.mlp.0.weight", "final_layer.linear.weight"}
# What stands beside a network, and might be taken for it.
OTHERS = (
    (clip.NAME, "encoder", clip.is_encoder),
    (latent_unet.NAME, "autoencoder", latent_unet.is_autoencoder),
)


def detect(state: Mapping[str, Tensor], source: str = "checkpoint", architecture: str | None = None) -> Architecture:
    """The network that a state dict holds the weights of.

    Args:
        state: float32 tensors by their keys.
        source: where it is from, for errors.
        architecture: its name, where the weights of several would look alike; None for the likeliest.

    Raises:
        CheckpointError: where it is of no network that is known here, or does not hold all weights of one.
        InputError: for a name that is none's.
    """
    if architecture is not None and architecture not in ARCHITECTURES:
        raise InputError(f"architecture {architecture!r} is unknown", hint=f"use one of {', '.join(ARCHITECTURES)}")
    for kind in ARCHITECTURES.values():
        found = kind.detect(state, source)
        if found is not None:
            found = found if architecture is None else _named(found, architecture, source)
            check_fit(found.weight_shapes(), state, found.name, source)
            return found
    if state.keys() >= DIT:
        raise CheckpointError(
            f"{source} is Refusion's DiT, which is not supported", hint="of latents its ConditionalNAFNets are"
        )
    for name, option, is_other in OTHERS:
        if is_other(state):
            raise CheckpointError(
                f"{source} is the {name}, not the network itself", hint=f"give the network, and this as its {option}"
            )
    raise CheckpointError(
        f"{source} is no {', no '.join(ARCHITECTURES)}: it has {some(list(state), 3)}",
        hint="networks of Refusion, IR-SDE and DA-CLIP are supported",
    )


def _named(found: Architecture, architecture: str, source: str) -> Architecture:
    """The network of this name with the hyper-parameters of what was found."""
    kind = ARCHITECTURES[architecture]
    if isinstance(found, nafnet.NAFNet) and issubclass(kind, nafnet.NAFNet):
        return kind.like(found)
    if found.name != architecture:
        raise CheckpointError(f"{source} holds a {found.name}, not a {architecture}")
    return found


def network_keys(keys: Set[str]) -> Set[str]:
    """Of a network's checkpoint all keys; an encoder's, which is told of as such, has numbers under two keys."""
    return clip.needed(keys) if clip.is_encoder(keys) else keys


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


def load_checkpoint(path: str | Path, architecture: str | None = None) -> nn.Module:
    """The network in a checkpoint file, in evaluation mode; call it as `net(x, mu, t)`.

    See `detect` for `architecture`.

    Raises:
        CheckpointError: for a file that is missing, damaged, holds code, or fits no network that is known here.
        InputError: for an architecture that is unknown.
    """
    checkpoint = read_checkpoint(path, network_keys)
    return network_of(detect(checkpoint.state, str(path), architecture), checkpoint)


__all__ = ["ARCHITECTURES", "Architecture", "Conditioner", "detect", "load_checkpoint", "network_of"]
