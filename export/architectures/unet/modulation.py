"""Everything in the network that depends on time alone, evaluated once per step when a plan is built.

Without a degradation prompt these are the two vectors of each residual block, its shift and 1 + its scale, so that an
engine neither stores nor reads the small networks that make them. With a prompt, which is added to the embedded time
before those, it is the embedded time itself; the graph has the blocks' networks, as one matrix (graph.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrs.export.architectures.unet.config import Config, block_names
from mrs.export.architectures.unet.module import ResBlock, UNet
from mrs.export.onnx_writer import F32


def modulation_size(config: Config) -> int:
    """Length of the modulation vector."""
    return config.time if config.prompt else vectors_size(config)


def vectors_size(config: Config) -> int:
    """Length of all blocks' vectors."""
    return sum(2 * made for _, _, made in block_names(config))


def modulation_table(net: UNet, times: Sequence[float]) -> F32:
    """The modulation vector of each time, (len(times), modulation_size), float32.

    Of each block, in the order of execution: the multiplier 1 + scale, the shift.
    """
    with torch.no_grad():
        embedded = net.embedded(torch.tensor(times, dtype=torch.float32), torch.zeros(len(times)))
        if net.arch.prompt:
            return embedded.numpy()
        columns: list[Tensor] = []
        for name, _, _ in block_names(net.arch):
            block = net.get_submodule(name)
            assert isinstance(block, ResBlock)
            scale, shift = block.mlp(embedded).chunk(2, dim=1)
            columns += [1 + scale, shift]
        return torch.cat(columns, dim=1).numpy()
