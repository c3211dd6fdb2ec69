"""The network gives the published outputs, for any size, and refuses sizes that no network has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.config import weight_shapes
from mrs.export.architectures.nafnet.module import ChannelNorm, ConditionalNAFNet
from mrs.runtime.errors import InputError

SMALL = NAFNet(width=4, enc_blocks=(1, 0), mid_blocks=1, dec_blocks=(0, 1))


@pytest.fixture(autouse=True)
def without_gradients(one_thread):
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def published(golden):
    return load_checkpoint(golden.weights)


@pytest.fixture(scope="module")
def pair(golden) -> tuple[Tensor, Tensor]:
    return torch.tensor(golden.arrays["x"]), torch.tensor(golden.arrays["mu"])


def scrambled(arch: NAFNet) -> ConditionalNAFNet:
    """A network whose every weight matters; as built, the gains of the residuals are zero."""
    torch.manual_seed(0)
    net = ConditionalNAFNet(arch)
    for parameter in net.parameters():
        parameter.copy_(0.3 * torch.randn_like(parameter))
    return net.eval()


@pytest.mark.parametrize(
    "arch",
    [SMALL, NAFNet(4, (), 1, ()), NAFNet(6, (2, 0, 3), 2, (0, 1, 2), 1), NAFNet(4, (0,), 0, (0,))],
    ids=str,
)
def test_the_shapes_are_those_of_the_module(arch: NAFNet) -> None:
    with torch.device("meta"):
        state = ConditionalNAFNet(arch).state_dict()
    assert weight_shapes(arch) == {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("index", range(5))
def test_published_outputs(golden, published, pair, index: int) -> None:
    out = published(*pair, float(golden.arrays["net_t"][index]))
    np.testing.assert_allclose(out.numpy(), golden.arrays["net_out"][index], rtol=0, atol=1e-5)


def test_published_output_with_a_time_for_each_picture(golden, published, pair) -> None:
    out = published(*pair, torch.tensor([3.0, 90.0]))
    np.testing.assert_allclose(out.numpy(), golden.arrays["net_out_batched_t"], rtol=0, atol=1e-5)


def test_times_as_number_one_element_or_batch_are_the_same(published, pair) -> None:
    out = published(*pair, 7.5)
    for t in (torch.tensor(7.5), torch.tensor([7.5]), torch.tensor([7.5, 7.5]), np.float64(7.5)):
        torch.testing.assert_close(published(*pair, t), out, rtol=0, atol=1e-6)


def test_pictures_of_a_batch_do_not_touch_each_other(published, pair) -> None:
    x, mu = pair
    alone = published(x[1:], mu[1:], 30)
    torch.testing.assert_close(published(x, mu, 30)[1:], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 4), (7, 5), (8, 8), (13, 2)], ids=str)
def test_any_size_is_the_crop_of_the_zero_padded_one(size: tuple[int, int]) -> None:
    net = scrambled(SMALL)
    height, width = size
    x, mu = torch.rand(1, 3, *size), torch.rand(1, 3, *size)
    pad = (0, -width % 4, 0, -height % 4)
    padded = net(torch.nn.functional.pad(x, pad), torch.nn.functional.pad(mu, pad), 20)
    out = net(x, mu, 20)
    assert out.shape == x.shape
    torch.testing.assert_close(out, padded[..., :height, :width], rtol=1e-5, atol=1e-5)


def test_every_weight_and_every_input_matters() -> None:
    net = scrambled(NAFNet(4, (1, 0), 2, (1, 1)))
    x, mu = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    with torch.enable_grad():
        x.requires_grad_()
        mu.requires_grad_()
        net(x, mu, 20).square().sum().backward()
    still = [key for key, value in net.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert still == []
    for given in (x, mu):
        assert given.grad is not None
        assert given.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("enc", "mid", "dec"), [((), 1, ()), ((2,), 0, (0,)), ((0, 3), 1, (1, 0)), ((1, 1, 1), 1, (1, 1, 1))]
)
def test_levels_without_blocks(enc: tuple[int, ...], mid: int, dec: tuple[int, ...]) -> None:
    arch = NAFNet(6, enc, mid, dec, channels=2)
    assert arch.multiple == 2 ** len(enc)
    out = scrambled(arch)(torch.rand(1, 2, 5, 6), torch.rand(1, 2, 5, 6), 4)
    assert out.shape == (1, 2, 5, 6)
    assert out.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_is_the_same_function_in_16_bits(dtype: torch.dtype) -> None:
    # A variance near 1e-5 tells the two published constants apart, and a sum of squares of 300 overflows float16.
    x = 3e-3 * torch.randn(1, 64, 4, 4)
    norm = ChannelNorm(64)
    for scale in (1.0, 1e5):
        given = (x * scale).to(dtype)
        torch.testing.assert_close(norm.to(dtype)(given).float(), norm.float()(given.float()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 45), (torch.bfloat16, 28)])
def test_network_cast_to_16_bits(golden, pair, dtype: torch.dtype, least: float) -> None:
    net = load_checkpoint(golden.weights).to(dtype)
    x, mu = (part.to(dtype) for part in pair)
    out = net(x, mu, 99.7)
    exact = load_checkpoint(golden.weights)(x.float(), mu.float(), 99.7)
    assert out.dtype == dtype
    ratio = exact.var() / (out.float() - exact).square().mean()
    assert 10 * ratio.log10() > least
    # 99.7 is 99.5 in bfloat16: the time itself is not rounded.
    assert not torch.equal(net(x, mu, float(torch.tensor(99.7).to(dtype))), out)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((2, (1,), 1, (1,)), "width 2"),
        ((7, (1,), 1, (1,)), "width 7"),
        ((8, (1, 1), 1, (1,)), "2 levels and the decoder 1"),
        ((8, (1, -1), 1, (1, 1)), "negative"),
        ((8, (), -1, ()), "negative"),
        ((8, (1,), 1, (1,), 0), "channels 0"),
    ],
)
def test_sizes_that_no_network_has_are_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(InputError, match=named):
        NAFNet(*arguments)
