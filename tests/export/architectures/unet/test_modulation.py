"""The modulation table is what the network computes from time on its own way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrs.export.architectures.unet.config import block_names
from mrs.export.architectures.unet.modulation import modulation_size, modulation_table, vectors_size
from tests.export.architectures.unet.examples import contexts, pictures
from tests.golden.networks import golden

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_gives_what_each_block_is_given(published) -> None:
    net, times = published("irsde_unet_d2"), [99.5, 40.0, 0.0]
    table = modulation_table(net, times)
    assert table.shape == (3, modulation_size(net.arch))
    assert table.dtype == np.float32
    names = [name for name, _, _ in block_names(net.arch)]
    for row, time in zip(table, times, strict=True):
        given: dict[str, list[torch.Tensor]] = {}
        hooks = [
            net.get_submodule(f"{name}.block1").register_forward_hook(
                lambda _, inputs, output, name=name, given=given: given.__setitem__(name, inputs)
            )
            for name in names
        ]
        with torch.no_grad():
            net(*pictures("irsde_unet_d2", "0"), time)
        for hook in hooks:
            hook.remove()
        # In the order of execution.
        assert list(given) == names
        vectors = [vector for _, scale, shift in given.values() for vector in (1 + scale, shift)]
        np.testing.assert_allclose(row, torch.cat([each.flatten() for each in vectors]).numpy(), rtol=0, atol=1e-5)


def test_with_a_prompt_it_is_the_embedded_time(published) -> None:
    net = published("daclip_unet_full")
    table = modulation_table(net, [50.0, 7.5])
    assert table.shape == (2, modulation_size(net.arch)) == (2, 128)
    np.testing.assert_allclose(table[:1], golden("daclip_unet_full")["mid_time_mlp"], rtol=0, atol=1e-5)
    assert np.abs(table[0] - table[1]).max() > 1e-3
    assert vectors_size(net.arch) == 2 * (4 * 2 * 32 + 2 * 64 + 2 * 64 + 6 * 32 + 32)


def test_it_leaves_the_network_alone(published) -> None:
    net = published("daclip_unet_wild")
    modulation_table(net, [3.0])
    assert all(parameter.grad is None for parameter in net.parameters())
    assert contexts("daclip_unet_wild", "0").keys() == {"text_context", "image_context"}
