"""Networks of the benchmarks, with random weights that do something in every block."""

from __future__ import annotations

from pathlib import Path

import torch

from mrs.export import checkpoint
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.module import ConditionalNAFNet

REFUSION = NAFNet(width=64, enc_blocks=(1, 1, 1, 28), mid_blocks=1, dec_blocks=(1, 1, 1, 1))


def random_network(arch: NAFNet, seed: int = 0) -> ConditionalNAFNet:
    """A network whose residual gains are not at their initial zero, and whose output is about as large as noise."""
    torch.manual_seed(seed)
    net = ConditionalNAFNet(arch).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith((".beta", ".gamma")):
                weight.normal_(std=0.1)
    return net


def write_checkpoint(arch: NAFNet, path: Path) -> Path:
    """A flat state dict, as Refusion's training saves it."""
    checkpoint.save(path.with_suffix(".safetensors"), random_network(arch).state_dict(), {})
    return path.with_suffix(".safetensors")
