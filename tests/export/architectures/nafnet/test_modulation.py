"""The modulation table is what the network computes from time on its own way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.modulation import block_names, modulation_size, modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from tests.random_nafnet import random_nafnet

Values = dict[str, Tensor]
ARCH = NAFNet(width=4, enc_blocks=(1, 0, 2), mid_blocks=1, dec_blocks=(0, 1, 1))


@pytest.fixture(scope="module")
def net() -> ConditionalNAFNet:
    return random_nafnet(ARCH, scale=0.3, gains=0.3, contrast=None)


def test_blocks_in_the_order_of_execution(net: ConditionalNAFNet) -> None:
    names = list(block_names(ARCH))
    assert names == [
        ("encoders.0.0", 4),
        ("encoders.2.0", 16),
        ("encoders.2.1", 16),
        ("middle_blks.0", 32),
        ("decoders.1.0", 8),
        ("decoders.2.0", 4),
    ]
    picture = torch.zeros(1, 3, 8, 8)
    # Listed backwards: dictionaries keep the order in which the parts ran.
    _, made = passed_through(net, [name for name, _ in reversed(names)], lambda: net(picture, picture, 1.0))
    assert list(made) == [name for name, _ in names]


def test_size() -> None:
    assert modulation_size(ARCH) == 4 * (4 + 16 + 16 + 32 + 8 + 4)
    assert modulation_size(NAFNet(64, (1, 1, 1, 28), 1, (1, 1, 1, 1))) == 4 * (64 * 15 * 2 + 27 * 512 + 1024)


def passed_through(net: ConditionalNAFNet, parts: list[str], call: Callable[[], Tensor]) -> tuple[Values, Values]:
    """What the named parts of a network are given and make during a call."""
    given: Values = {}
    made: Values = {}

    def keep(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given[name], made[name] = inputs[0], output

    hooks = [
        net.get_submodule(name).register_forward_hook(lambda _, inputs, output, name=name: keep(name, inputs, output))
        for name in parts
    ]
    with torch.no_grad():
        call()
    for hook in hooks:
        hook.remove()
    return given, made


def test_it_gives_what_each_block_computes(one_thread, net: ConditionalNAFNet) -> None:
    times = [99.5, 40.0, 0.0]
    table = modulation_table(net, times)
    assert table.shape == (3, modulation_size(ARCH))
    assert table.dtype == np.float32
    x, mu = torch.rand(1, 3, 16, 8, generator=torch.Generator().manual_seed(1)), torch.full((1, 3, 16, 8), 0.4)
    parts = [f"{name}.{part}" for name, _ in block_names(ARCH) for part in ("norm1", "conv1", "norm2", "conv4")]
    for row, time in zip(table, times, strict=True):
        given, made = passed_through(net, parts, lambda time=time: net(x, mu, time))
        position = 0
        for name, channels in block_names(ARCH):
            for norm, conv in (("norm1", "conv1"), ("norm2", "conv4")):
                shift, gain = row[position : position + channels], row[position + channels : position + 2 * channels]
                position += 2 * channels
                # What the norm gives without its own gain, times ours, is what the convolution after it is given.
                plain = made[f"{name}.{norm}"] / net.get_submodule(f"{name}.{norm}").g.detach()
                ours = plain.numpy() * gain[:, None, None] + shift[:, None, None]
                np.testing.assert_allclose(ours, given[f"{name}.{conv}"].numpy(), rtol=1e-4, atol=1e-5)
        assert position == len(row)


def test_times_matter_and_leave_the_network_alone(net: ConditionalNAFNet) -> None:
    table = modulation_table(net, (90.0, 10.0))
    assert np.abs(table[0] - table[1]).max() > 1e-3
    np.testing.assert_allclose(modulation_table(net, [10.0])[0], table[1], rtol=0, atol=1e-6)
    assert all(parameter.grad is None for parameter in net.parameters())
