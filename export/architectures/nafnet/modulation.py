"""Everything in the network that depends on time alone, evaluated once per step when a plan is built.

The time embedding and each block's small network of it give four vectors per block: shift and scale of its two norms.
At run time they are an input of the graph, so that an engine neither stores nor reads their weights (a fifth of
Refusion's parameters). A norm's gain g multiplies what its scale multiplies, so that g (1 + scale) is one vector.
A network that is told of lenses has two more for each block, of the lenses that its hyper-parameters name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mrs.export.architectures.nafnet.config import Config
from mrs.export.architectures.nafnet.module import BokehNAFNet, NAFBlock, NAFNetModule


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


def vectors_per_block(config: Config) -> int:
    """Vectors of each block, as long as it has channels."""
    return 6 if config.lensed else 4


def modulation_size(config: Config) -> int:
    """Length of the modulation vector."""
    return sum(vectors_per_block(config) * channels for _, channels in block_names(config))


def modulation_table(net: NAFNetModule, times: Sequence[float]) -> NDArray[np.float32]:
    """The modulation vector of each time, shape (len(times), modulation_size), float32.

    Of each block, in this order: shift of the first norm, multiplier of the first norm, shift of the second,
    multiplier of the second; a multiplier is gain x (1 + scale). Then perhaps shift and multiplier of its second gate.

    Raises:
        InputError: where a network is to be told of lenses, and its hyper-parameters name none.
    """
    with torch.no_grad():
        embedded = net.embedded_time(torch.tensor(times, dtype=torch.float32))
        lenses = net.embedded_lenses() if isinstance(net, BokehNAFNet) else None
        columns = []
        for name, _ in block_names(net.arch):
            block = net.get_submodule(name)
            assert isinstance(block, NAFBlock)
            shift_att, scale_att, shift_ffn, scale_ffn = block.by_time(embedded)
            columns += [shift_att, block.norm1.g.flatten() * (1 + scale_att)]
            columns += [shift_ffn, block.norm2.g.flatten() * (1 + scale_ffn)]
            if lenses is not None:
                scale, shift = (part.expand(len(times), -1) for part in block.by_lenses(lenses))
                columns += [shift, 1 + scale]
        return torch.cat(columns, dim=1).numpy()
