"""The latent pair gives the published latents and pictures, and what does not fit is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mrs
from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.latent_unet import Autoencoder, Hidden, LatentUNet, load_autoencoder
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.runtime.errors import CheckpointError, InputError
from tests.golden.networks import TOLERANCE, golden, weights

ARCH = Autoencoder((8, 8, 16, 16), 4)


@pytest.fixture(autouse=True)
def without_gradients(one_thread):
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def coder(tmp_path_factory: Any) -> LatentUNet:
    return mrs.load_autoencoder(weights("latent_unet.pth", tmp_path_factory.mktemp("weights")))


def close(output: Tensor, expected: Any, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=tolerance)


def scrambled(arch: Autoencoder) -> LatentUNet:
    torch.manual_seed(0)
    return LatentUNet(arch).eval()


def test_published_latents_and_pictures(coder: LatentUNet) -> None:
    arrays = golden("latent_unet")
    assert coder.arch == ARCH
    assert not coder.training
    latent, hidden = coder.encode(torch.tensor(arrays["lq"]))
    close(latent, arrays["latent"])
    assert len(hidden) == 7
    for index, state in enumerate(hidden):
        close(state[:1], arrays[f"hidden_{index}"])
    close(coder.decode(latent, hidden), arrays["recon"])
    close(coder.decode(torch.tensor(arrays["latent_changed"]), hidden), arrays["decoded_changed"])
    # The hidden states are as they were, and the picture is both in a row.
    close(coder.decode(latent, hidden), arrays["recon"])
    close(coder(torch.tensor(arrays["lq"])), arrays["recon"])


def test_a_picture_in_between_changes_nothing(coder: LatentUNet) -> None:
    """The published module crops to the size of the last picture that it has encoded."""
    arrays = golden("latent_unet")
    latent, hidden = coder.encode(torch.tensor(arrays["lq"]))
    coder.encode(torch.zeros(1, 3, 8, 8))
    close(coder.decode(latent, hidden), arrays["recon"])
    # A plain list knows no size.
    whole = coder.decode(latent, list(hidden))
    assert whole.shape == (2, 3, 40, 48)
    close(whole[..., :37, :45], arrays["recon"])


def test_the_published_chain_of_a_pair(coder: LatentUNet, tmp_path: Path) -> None:
    """Encoded, ten steps of the reverse process with the network for latents, decoded."""
    arrays = golden("latent_chain")
    net = load_checkpoint(weights("latent_chain_nafnet.pth", tmp_path))
    assert net.arch.name == "ConditionalNAFNet-latent-dehazing"  # type: ignore[union-attr]
    latent, hidden = coder.encode(torch.tensor(arrays["lq"]))
    close(latent, arrays["latent_lq"])
    close(coder.decode(latent, hidden), arrays["decode_of_latent_lq"])
    schedule = Schedule(max_sigma=50, T=10, convention="ir-sde")
    theta, bank = schedule.theta * schedule.dt, torch.tensor(arrays["noise_bank"])
    x = latent + schedule.S * bank[0]
    close(x, arrays["x_T"])
    for draw, t in enumerate(range(10, 0, -1), 1):
        noise = net(x, latent, t)
        drift = theta[t] * (latent - x) + 2 * theta[t] * schedule.S**2 * noise / schedule.sigmas[t]
        x = x - drift - schedule.S * (2 * theta[t]) ** 0.5 * bank[draw]
    close(x, arrays["latent_out"], 1e-4)
    close(coder.decode(x, hidden), arrays["output"], 1e-4)


def test_the_published_chain_as_a_table(coder: LatentUNet, tmp_path: Path) -> None:
    arrays = golden("latent_chain")
    net = load_checkpoint(weights("latent_chain_nafnet.pth", tmp_path))
    latent, hidden = coder.encode(torch.tensor(arrays["lq"]))
    table = mrs.tableau(
        Schedule(max_sigma=50, T=10, convention="ir-sde"),
        Solver(method="euler-sde", order=1, prediction="noise", steps=10),
        "noise",
    )

    def denoise(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    bank = arrays["noise_bank"]
    restored = mrs.sample(denoise, latent.numpy(), table, noise=bank[1:], init_noise=bank[0], clamp=False)
    np.testing.assert_allclose(restored, arrays["latent_out"], rtol=0, atol=1e-4)
    close(coder.decode(torch.from_numpy(restored), hidden), arrays["output"], 1e-4)


@pytest.mark.parametrize("arch", [ARCH, Autoencoder((4, 6), 2, 1), Autoencoder((8, 32, 64, 64, 128), 8)], ids=str)
def test_the_shapes_are_those_of_the_module(arch: Autoencoder) -> None:
    with torch.device("meta"):
        state = LatentUNet(arch).state_dict()
    assert arch.weight_shapes() == {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [(Autoencoder((8, 32, 64, 64, 128), 8), 2_007_859), (Autoencoder((64, 64, 128, 256), 4), 6_155_139)],
    ids=["dehazing", "bokeh"],
)
def test_published_sizes(arch: Autoencoder, parameters: int) -> None:
    assert sum(int(np.prod(shape)) for shape in arch.weight_shapes().values()) == parameters


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 4), (5, 8), (13, 2)], ids=str)
def test_small_pictures_are_mirrored_as_often_as_it_takes(size: tuple[int, int], coder: LatentUNet) -> None:
    picture = torch.rand(1, 3, *size)
    latent, hidden = coder.encode(picture)
    assert latent.shape[2:] == tuple(-(-side // 8) * 2 for side in size)
    assert coder.decode(latent, hidden).shape == picture.shape
    tall = [[*range(side), *range(side - 2, 0, -1)] for side in size]
    rows, columns = (
        [each[i % len(each)] for i in range(-(-side // 8) * 8)] for each, side in zip(tall, size, strict=True)
    )
    whole = picture[..., rows, :][..., columns]
    close(latent, coder.encode(whole)[0].numpy(), 1e-6)


# What is refused


def less(key: str) -> Callable[[dict[str, Tensor]], Any]:
    """What takes all weights away whose keys begin so."""
    return lambda state: [state.pop(other) for other in list(state) if other.startswith(key)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (less("latent_conv"), r"is no autoencoder of a latent pair: it lacks latent_conv\.weight \(give the file"),
        (less("encoder.1.3.weight"), r"missing: encoder\.1\.3\.weight"),
        (less("encoder.2."), r"missing: .*encoder\.2\.0\.block1\.proj\.weight"),
        (less("decoder.0.2.fn.fn.to_qkv"), r"missing: decoder\.0\.2\.fn\.fn\.to_qkv\.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "left over: extra"),
        (lambda state: state.update({"final_conv.bias": torch.zeros(5)}), r"wrong shape: final_conv\.bias is \(5,\)"),
        (lambda state: state["final_conv.bias"].fill_(torch.nan), r"NaN or infinite: final_conv\.bias"),
        (
            lambda state: state.update({"init_conv.weight": torch.zeros(0, 3, 3, 3)}),
            "is no autoencoder of a latent pair: channels of 0, ",
        ),
        (lambda state: [state.pop(key) for key in list(state) if key.startswith(("encoder", "decoder"))],
         "is no autoencoder of a latent pair: 0 levels"),
    ],
    ids=["no latents", "a weight", "a level", "attention", "left over", "shape", "NaN", "no channels", "no levels"],
)  # fmt: skip
def test_what_is_no_autoencoder(change: Callable[[dict[str, Tensor]], Any], named: str, tmp_path: Path) -> None:
    state = torch.load(weights("latent_unet.pth", tmp_path), weights_only=True)
    change(state)
    torch.save(state, tmp_path / "changed.pth")
    with pytest.raises(CheckpointError, match=named) as caught:
        load_autoencoder(tmp_path / "changed.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("latent_unet.pth", r"is the autoencoder of a latent pair, not the network itself \(give .* as its autoenc"),
        ("daclip_encoder_b.pt", r"is the DA-CLIP encoder, not the network itself \(give .* as its encoder\)"),
    ],
)  # fmt: skip
def test_what_stands_beside_a_network_is_told_from_it(name: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=named):
        load_checkpoint(weights(name, tmp_path))


def test_a_latent_of_another_picture(coder: LatentUNet) -> None:
    latent, hidden = coder.encode(torch.zeros(1, 3, 8, 16))
    with pytest.raises(InputError, match="is not one of 4 channels"):
        coder.decode(latent[:, :3], hidden)
    for wrong in (torch.zeros(1, 4, 2, 6), torch.zeros(2, 4, 2, 4)):
        with pytest.raises(InputError, match="7 hidden states do not fit a latent of"):
            coder.decode(wrong, hidden)
    with pytest.raises(InputError, match="6 hidden states do not fit a latent of"):
        coder.decode(latent, Hidden(hidden[:-1], (8, 16)))


@pytest.mark.parametrize("arguments", [((8,), 4), ((8,) * 11, 4), ((8, 0), 4), ((8, 8), 0), ((8, 1 << 17), 4)])
def test_sizes_that_no_network_has(arguments: Any) -> None:
    with pytest.raises(InputError, match=r"levels|are not of 1 to"):
        Autoencoder(*arguments)
