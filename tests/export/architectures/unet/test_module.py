"""The networks of IR-SDE and DA-CLIP give the published outputs, whatever of their features is given, for any size."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrs.export.architectures.unet.module import UNet, module_of
from mrs.export.architectures.unet.weights import weight_shapes
from mrs.runtime.errors import InputError
from tests.export.architectures.unet.examples import NAMES, contexts, pictures, tensor
from tests.golden.networks import TOLERANCE, golden

OUTPUT = re.compile(r"out_(?P<input>\w+?)_(t(?P<time>[\d.]+)|tvec)(?P<without>_(text|image|both)_none)?")
# Where what an array holds is made.
PARTS = {
    "init_conv": "init_conv", "time_mlp": "time_mlp.3", "prompt_mlp": "prompt_mlp", "downs_0_block1": "downs.0.0",
    "downs_0_attn": "downs.0.2", "downs_0_down": "downs.0.3", "downs_last_attn": "downs.3.2",
    "mid_block1": "mid_block1", "mid_attn": "mid_attn", "mid_block2": "mid_block2", "ups_0_attn": "ups.0.2",
    "ups_0_up": "ups.0.3", "final_res_block": "final_res_block",
}  # fmt: skip


@pytest.fixture(autouse=True)
def without_gradients(one_thread):
    with torch.no_grad():
        yield


def arrays(prefix: str) -> list[tuple[str, str]]:
    return [(name, key) for name in NAMES for key in golden(name) if key.startswith(prefix)]


@pytest.mark.parametrize(("name", "key"), arrays("out_"))
def test_published_outputs(published, name: str, key: str) -> None:
    found = OUTPUT.fullmatch(key)
    assert found is not None
    which = found["input"]
    time = float(found["time"]) if found["time"] else tensor(name, f"tvec_{which}")
    told = contexts(name, which, found["without"] or "")
    out = published(name)(*pictures(name, which), time, **told)
    np.testing.assert_allclose(out.numpy(), golden(name)[key], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "key"), arrays("mid_"))
def test_published_parts(published, name: str, key: str) -> None:
    net, made = published(name), []
    part = net.get_submodule(PARTS[key.removeprefix("mid_")])
    hook = part.register_forward_hook(lambda _, inputs, output: made.append(output))
    net(*(each[:1] for each in pictures(name, "0")), 50, **{k: v[:1] for k, v in contexts(name, "0").items()})
    hook.remove()
    (value,) = made
    np.testing.assert_allclose(value.numpy(), golden(name)[key], rtol=0, atol=TOLERANCE)


def test_a_prefix_of_several_processors_is_taken_off(published) -> None:
    plain, prefixed = (published(f"irsde_unet_d2{suffix}").state_dict() for suffix in ("", "_module_prefix"))
    assert plain.keys() == prefixed.keys()
    assert all(torch.equal(plain[key], prefixed[key]) for key in plain)


@pytest.mark.parametrize("name", NAMES)
def test_the_shapes_are_those_of_the_module(published, name: str) -> None:
    arch = published(name).arch
    with torch.device("meta"):
        state = module_of(arch).state_dict()
    assert weight_shapes(arch) == {key: tuple(value.shape) for key, value in state.items()}


def test_times_as_number_one_element_or_batch_are_the_same(published) -> None:
    net, (x, mu) = published("irsde_unet_d2"), pictures("irsde_unet_d2", "0")
    out = net(x, mu, 7.5)
    for t in (torch.tensor(7.5), torch.tensor([7.5]), torch.tensor([7.5, 7.5]), np.float64(7.5)):
        torch.testing.assert_close(net(x, mu, t), out, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="3 times for 2 pictures"):
        net(x, mu, torch.tensor([1.0, 2.0, 3.0]))


def mirrored(picture: Tensor, height: int, width: int) -> Tensor:
    """By single steps, as often as it takes; one row or column stays what it is."""
    for axis, side in ((2, height), (3, width)):
        rows, at, step = list(picture.unbind(axis)), picture.shape[axis] - 1, -1
        while len(rows) < side:
            if picture.shape[axis] > 1:
                step = -1 if at == picture.shape[axis] - 1 else 1 if at == 0 else step
                at += step
            rows.append(picture.select(axis, at))
        picture = torch.stack(rows, dim=axis)
    return picture


@pytest.mark.parametrize("size", [(1, 1), (1, 16), (2, 5), (8, 16), (9, 16), (16, 32), (17, 3)], ids=str)
def test_any_size_is_the_crop_of_the_mirrored_one(published, size: tuple[int, int]) -> None:
    # The published code fails below 9 rows here.
    net, (height, width) = published("irsde_unet_d4"), size
    x, mu = torch.rand(2, 1, 3, *size, generator=torch.Generator().manual_seed(0))
    full = [mirrored(each, height + -height % 16, width + -width % 16) for each in (x, mu)]
    out = net(x, mu, 30)
    assert out.shape == x.shape
    torch.testing.assert_close(out, net(*full, 30)[..., :height, :width], rtol=0, atol=1e-5)


def test_pictures_of_a_batch_do_not_touch_each_other(published) -> None:
    for name in ("daclip_unet_full", "unet_denoising"):
        given, told = pictures(name, "0"), contexts(name, "0")
        both = published(name)(*given, 30, **told)
        alone = published(name)(*(each[1:] for each in given), 30, **{key: each[1:] for key, each in told.items()})
        torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-5)


def test_a_context_is_all_that_depends_on_the_features(published) -> None:
    for name in ("daclip_unet_full", "daclip_unet_degra", "daclip_unet_wild"):
        net, given, told = published(name), pictures(name, "0"), contexts(name, "0")
        out = net.given(*given, 50, net.context(**told))
        np.testing.assert_allclose(out.numpy(), golden(name)["out_0_t50"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_context": None}, "needs an image context: its transformers have 32, 64 channels, not 32"),
        ({"image_context": torch.zeros(2, 31)}, r"takes a image context of \(N, 32\), not one of shape \(2, 31\)"),
        ({"text_context": torch.zeros(32)}, r"takes a text context of \(N, 32\), not one of shape \(32,\)"),
    ],
    ids=["none", "short", "flat"],
)
def test_contexts_that_do_not_fit(published, change: dict[str, Any], message: str) -> None:
    # Where none is given the published code fails with shapes of matrices, too.
    net, told = published("daclip_unet_full"), contexts("daclip_unet_full", "0")
    with pytest.raises(InputError, match=message):
        net(*pictures("daclip_unet_full", "0"), 50, **{**told, **change})


def test_a_context_needs_all_features(published) -> None:
    told = contexts("daclip_unet_full", "0")
    for kind in told:
        with pytest.raises(InputError, match=rf"takes a {kind[:4].strip('_')}\w* context of \(N, 32\), not none"):
            published("daclip_unet_full").context(**{key: value for key, value in told.items() if key != kind})


def test_half_precision_is_the_same_function_rounded(published) -> None:
    name = "daclip_unet_full"
    net = load_copy(published(name)).to(torch.bfloat16)
    given = [each.bfloat16() for each in pictures(name, "0")]
    out = net(*given, 50, **{key: value.bfloat16() for key, value in contexts(name, "0").items()})
    assert out.dtype == torch.bfloat16
    assert np.abs(out.float().numpy() - golden(name)["out_0_t50"]).mean() < 0.05


def load_copy(net: UNet) -> UNet:
    copy = module_of(net.arch)
    copy.load_state_dict(net.state_dict())
    return copy.eval()
