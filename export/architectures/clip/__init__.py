"""DA-CLIP's image encoder (arXiv 2310.01018): what its network is told of the whole picture comes from it."""

from __future__ import annotations

from pathlib import Path

import torch

from mrs.export.architectures.clip.config import PICTURE, Encoder, infer_encoder, is_encoder, needed
from mrs.export.architectures.clip.module import DACLIPEncoder
from mrs.export.checkpoint import Checkpoint, check_fit, read_checkpoint

NAME = "DA-CLIP encoder"


def read_encoder(path: str | Path, heads: int | None = None) -> tuple[Encoder, Checkpoint]:
    """Hyper-parameters and weights of an encoder's file: those of the two towers alone.

    Args:
        path: a flat state dict, or what DA-CLIP's training writes.
        heads: of the attention; None for CLIP's own rule, the width by 64.

    Raises:
        CheckpointError: for a file that is missing, damaged, holds code, or is of no such encoder.
        InputError: for heads that do not divide the width.
    """
    read = read_checkpoint(path, needed)
    # Under the keys of the copy that the published loader ends with.
    state = {
        key.removeprefix("clip.") if key.startswith(f"clip.{PICTURE}.") else key: value
        for key, value in read.state.items()
    }
    encoder = infer_encoder(state, heads, str(path))
    check_fit(encoder.weight_shapes(), state, NAME, str(path))
    return encoder, Checkpoint(state, read.sha256, read.metadata)


def load_encoder(path: str | Path, heads: int | None = None) -> DACLIPEncoder:
    """The encoder in a checkpoint file, in evaluation mode; call it as `encoder(image)`. See `read_encoder`."""
    encoder, read = read_encoder(path, heads)
    # Without storage first: random numbers are neither spent nor touched.
    with torch.device("meta"):
        net = DACLIPEncoder(encoder)
    net.to_empty(device="cpu").load_state_dict(read.state)
    return net.eval()


__all__ = ["NAME", "DACLIPEncoder", "Encoder", "infer_encoder", "is_encoder", "load_encoder", "read_encoder"]
