"""Everything in the network that depends on time alone, evaluated once per step when a plan is built.

The time embedding and each block's small network of it give four vectors per block: shift and scale of its two norms.
At run time they are an input of the graph, so that an engine neither stores nor reads their weights (a fifth of
Refusion's parameters). A norm's gain g multiplies what its scale multiplies, so that g (1 + scale) is one vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mrs.export.architectures.nafnet.config import Config
from mrs.export.architectures.nafnet.module import ConditionalNAFNet, NAFBlock


def block_names(config: Config) -> Iterator[tuple[str, int]]:
    """State-dict prefix and channels of every block, in the order of execution and of the modulation vector."""
    channels = config.width
    for level, count in enumerate(config.enc_blocks):
        yield from ((f"encoders.{level}.{i}", channels) for i in range(count))
        channels *= 2
    yield from ((f"middle_blks.{i}", channels) for i in range(config.mid_blocks))
    for level, count in enumerate(config.dec_blocks):
        channels //= 2
        yield from ((f"decoders.{level}.{i}", channels) for i in range(count))


def modulation_size(config: Config) -> int:
    """Length of the modulation vector: four times the channels of every block."""
    return sum(4 * channels for _, channels in block_names(config))


def modulation_table(net: ConditionalNAFNet, times: Sequence[float]) -> NDArray[np.float32]:
    """The modulation vector of each time, shape (len(times), modulation_size), float32.

    Of each block, in this order: shift of the first norm, multiplier of the first norm, shift of the second,
    multiplier of the second; a multiplier is gain x (1 + scale).
    """
    with torch.no_grad():
        embedded = net.time_mlp(torch.tensor(times, dtype=torch.float32))
        columns = []
        for name, _ in block_names(net.arch):
            block = net.get_submodule(name)
            assert isinstance(block, NAFBlock)
            shift_att, scale_att, shift_ffn, scale_ffn = block.mlp(embedded).chunk(4, dim=1)
            columns += [shift_att, block.norm1.g.flatten() * (1 + scale_att)]
            columns += [shift_ffn, block.norm2.g.flatten() * (1 + scale_ffn)]
        return torch.cat(columns, dim=1).numpy()
