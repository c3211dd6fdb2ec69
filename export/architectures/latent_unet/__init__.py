"""The UNet of Refusion's latent pairs (arXiv 2304.08291): it makes latents of pictures, and pictures of latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mrs.export.architectures.clip import NAME as ENCODER
from mrs.export.architectures.clip import is_encoder, needed
from mrs.export.architectures.latent_unet.config import Autoencoder, infer_autoencoder, is_autoencoder
from mrs.export.architectures.latent_unet.graph import decoder_graph, encoder_graph
from mrs.export.architectures.latent_unet.module import Hidden, LatentUNet
from mrs.export.checkpoint import check_fit, read_checkpoint
from mrs.runtime.errors import CheckpointError

NAME = "autoencoder of a latent pair"


@dataclass(frozen=True)
class AutoencoderWeights:
    """An autoencoder that was read from a file.

    Attributes:
        arch: its hyper-parameters.
        state: the weights under the published keys, float32.
        sha256: of the file's bytes, hex.
        path: of the file.
    """

    arch: Autoencoder
    state: Mapping[str, Tensor]
    sha256: str
    path: Path

    def module(self) -> LatentUNet:
        """The autoencoder in torch, in evaluation mode."""
        # Without storage first: random numbers are neither spent nor touched.
        with torch.device("meta"):
            net = LatentUNet(self.arch)
        net.to_empty(device="cpu").load_state_dict(self.state)
        return net.eval()

    def graphs(self) -> tuple[bytes, bytes]:
        """Encoder and decoder as ONNX models, for pictures of any size and batch."""
        state = {key: value.numpy() for key, value in self.state.items()}
        return encoder_graph(state, self.arch).SerializeToString(), decoder_graph(state, self.arch).SerializeToString()


def read_autoencoder(path: str | Path) -> AutoencoderWeights:
    """Hyper-parameters and weights of an autoencoder's file.

    Raises:
        CheckpointError: for a file that is missing, damaged, holds code, or is of no such autoencoder.
    """
    read = read_checkpoint(path, lambda keys: needed(keys) if is_encoder(keys) else keys)
    if is_encoder(read.state.keys()):
        raise CheckpointError(
            f"{path} is the {ENCODER}, not an {NAME}", hint="give it as --encoder (encoder=), for DA-CLIP's networks"
        )
    arch = infer_autoencoder(read.state, str(path))
    check_fit(arch.weight_shapes(), read.state, NAME, str(path))
    return AutoencoderWeights(arch, read.state, read.sha256, Path(path))


def load_autoencoder(path: str | Path) -> LatentUNet:
    """The autoencoder in a checkpoint file, in evaluation mode, with `encode` and `decode`. See `read_autoencoder`."""
    return read_autoencoder(path).module()


__all__ = [
    "NAME", "Autoencoder", "AutoencoderWeights", "Hidden", "LatentUNet", "infer_autoencoder", "is_autoencoder",
    "load_autoencoder", "read_autoencoder",
]  # fmt: skip
