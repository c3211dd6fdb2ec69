"""DA-CLIP's image encoder (arXiv 2310.01018): what its network is told of the whole picture comes from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mrs.export.architectures.clip import graph
from mrs.export.architectures.clip.config import DEVIATION, MEAN, PICTURE, Encoder, infer_encoder, is_encoder, needed
from mrs.export.architectures.clip.module import DACLIPEncoder
from mrs.export.checkpoint import check_fit, read_checkpoint
from mrs.export.onnx_writer import Emitter

NAME = "DA-CLIP encoder"


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder that was read from a file.

    Attributes:
        arch: its hyper-parameters.
        state: the weights of both towers under the published keys, float32.
        sha256: of the file's bytes, hex.
        path: of the file.
    """

    arch: Encoder
    state: Mapping[str, Tensor]
    sha256: str
    path: Path

    @property
    def side(self) -> int:
        """Of the pictures that it takes."""
        return self.arch.side

    @property
    def length(self) -> int:
        """Of each of its two features."""
        return self.arch.length

    def module(self) -> DACLIPEncoder:
        """The encoder in torch, in evaluation mode, on these very weights."""
        # Without storage first: random numbers are neither spent nor touched.
        with torch.device("meta"):
            net = DACLIPEncoder(self.arch)
        net.load_state_dict(self.state, assign=True)
        return net.eval()

    def features(self, emit: Emitter, picture: str, *, image: bool = True, degradation: bool = True) -> tuple[str, str]:
        """Add its nodes from a picture (N, 3, side, side) in [0, 1]: see `graph.features`."""
        state = {key: value.numpy() for key, value in self.state.items()}
        return graph.features(emit, state, self.arch, picture, image=image, degradation=degradation)


def read_encoder(path: str | Path, heads: int | None = None) -> EncoderWeights:
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
    copy = f"clip.{PICTURE}."
    state = {key.removeprefix("clip.") if key.startswith(copy) else key: value for key, value in read.state.items()}
    encoder = infer_encoder(state, heads, str(path))
    check_fit(encoder.weight_shapes(), state, NAME, str(path))
    return EncoderWeights(encoder, state, read.sha256, Path(path))


def normalised(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, side, side) in [0, 1] as the encoder takes them."""
    mean, deviation = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (MEAN, DEVIATION))
    return (pictures - mean) / deviation


def load_encoder(path: str | Path, heads: int | None = None) -> DACLIPEncoder:
    """The encoder in a checkpoint file, in evaluation mode; call it as `encoder(image)`. See `read_encoder`."""
    return read_encoder(path, heads).module()


__all__ = [
    "NAME", "DACLIPEncoder", "Encoder", "EncoderWeights", "infer_encoder", "is_encoder", "load_encoder", "needed",
    "read_encoder",
]  # fmt: skip
