"""Each preset is what its configuration file says, and is refused for weights of other networks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mrs import presets
from mrs.runtime.errors import CheckpointError, InputError

# max_sigma, T, eps, enlarged by: from the projects' files.
PUBLISHED = {
    "irsde-derain": (10, 100, 0.005, 1), "irsde-deblur": (10, 100, 0.005, 1), "irsde-deshadow": (30, 100, 0.005, 1),
    "irsde-deshadow-train": (10, 100, 0.005, 1), "irsde-inpaint": (30, 100, 0.005, 1), "irsde-sr": (30, 100, 0.005, 4),
    "irsde-denoise": (75, 100, 0.04, 1), "refusion-derain": (50, 100, 0.005, 1), "refusion-deblur": (50, 100, 0.005, 1),
    "refusion-deshadow": (50, 100, 0.005, 1), "refusion-inpaint": (50, 100, 0.005, 1),
    "refusion-sr": (50, 100, 0.005, 4), "refusion-denoise": (70, 1000, 0.04, 1),
    "refusion-dehaze": (50, 100, 0.005, 1), "refusion-bokeh": (50, 100, 0.005, 1),
    "daclip-universal": (50, 100, 0.005, 1), "daclip-wild": (50, 100, 0.005, 1), "mr-sampler": (50, 100, 0.005, 1),
}  # fmt: skip


def test_the_numbers_are_the_published_ones() -> None:
    found = {
        name: (each.schedule.max_sigma, each.schedule.T, each.schedule.eps, each.upscale)
        for name, each in presets.PRESETS.items()
    }
    assert found == PUBLISHED
    assert all(each.schedule.kind == "cosine" for each in presets.PRESETS.values())


def test_only_networks_for_noise_have_its_process() -> None:
    for name, each in presets.PRESETS.items():
        assert each.schedule.denoises == (each.noise_sigma is not None) == name.endswith("denoise")
        if each.noise_sigma is not None:
            # The published code takes a step for each whole time from there.
            assert round(each.schedule.time_of_noise(each.noise_sigma)) == each.evaluations


def arch(name: str, **facts: Any) -> Any:
    return SimpleNamespace(name=name, **facts)


UNET = arch("ConditionalUNet", condition=True, context=0, prompt=False, image=False, half=False)
UNIVERSAL = arch("ConditionalUNet", condition=True, context=512, prompt=True, image=True, half=False)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("refusion-derain", UNET, "a ConditionalUNet, not a ConditionalNAFNet"),
        ("irsde-derain", UNIVERSAL, "context 512, not 0"),
        ("daclip-universal", UNET, "prompt False, not True, image False, not True"),
        ("irsde-denoise", UNET, "condition True, not False"),
        ("refusion-denoise", arch("ConditionalNAFNet"), "a ConditionalNAFNet, not a ConditionalNAFNet-denoising"),
    ],
)
def test_other_weights_are_refused(name: str, given: Any, said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        presets.get(name).check(name, given, "net.pth")
    assert caught.value.message == f"preset {name} is for other weights: net.pth has {said}"


def test_weights_that_fit_pass() -> None:
    presets.get("irsde-derain").check("irsde-derain", UNET, "net.pth")
    presets.get("daclip-universal").check("daclip-universal", UNIVERSAL, "net.pth")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match=r"preset 'irsde' is unknown \(`mrs-trt presets` lists them\)"):
        presets.get("irsde")
