"""The published settings: which process a checkpoint was trained for, by the names of its authors' projects and tasks.

A checkpoint of these projects does not say its process, and what is missing decides the result: max_sigma 10 on weights
for 50 restores nothing. Each preset has the numbers of one published configuration file, named in `source`. Sizes of
networks are never taken from there: they disagree with the weights at times, and the weights say them.

Sources: the configuration files of IR-SDE and Refusion (github.com/Algolzw/image-restoration-sde, `codes/config`,
commit 2598d73), DA-CLIP (github.com/Algolzw/daclip-uir, `universal-image-restoration/config`, c2cc141) and MR Sampler
(github.com/grrrute/mr-sampler, the same folder, 896764c).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED
from mrs.runtime.errors import CheckpointError, InputError

Facts = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Preset:
    """One published setting.

    Attributes:
        task: what is restored.
        architecture: name of the kind of network.
        facts: what its hyper-parameters must be, as pairs of attribute and value.
        schedule: the process.
        sampler: the published one: `posterior`, `reverse SDE`, `reverse ODE`, `ODE-2`.
        evaluations: how many it takes as published.
        source: the configuration file, below its project's folder.
        upscale: by what the degraded picture is enlarged first.
        noise_sigma: of noisy pictures, in 0..255 units; None for other tasks.
        companion: the second file that is needed: `encoder` or `autoencoder`; empty for none.
        recommended: evaluations of this project's recommended solver.
    """

    task: str
    architecture: str
    schedule: Schedule
    sampler: str
    evaluations: int
    source: str
    facts: Facts = ()
    upscale: int = 1
    noise_sigma: float | None = None
    companion: str = ""
    recommended: int = RECOMMENDED.steps

    def check(self, name: str, arch: Any, source: str) -> None:
        """Refuse weights that are not of this preset's network: with another's process they would restore nothing.

        Args:
            name: of the preset.
            arch: the network of the weights, an `Architecture`.
            source: where they are from, for errors.

        Raises:
            CheckpointError: naming what differs.
        """
        wrong = [] if arch.name == self.architecture else [f"a {arch.name}, not a {self.architecture}"]
        wrong += [
            f"{key} {getattr(arch, key, None)}, not {value}"
            for key, value in self.facts
            if not wrong and getattr(arch, key, None) != value
        ]
        if wrong:
            raise CheckpointError(
                f"preset {name} is for other weights: {source} has {', '.join(wrong)}",
                hint="`mrs-trt presets` lists them",
            )


def _of(max_sigma: float, T: int = 100, **more: Any) -> Schedule:
    return Schedule(max_sigma=max_sigma, T=T, convention="ir-sde", **more)


def _denoising(max_sigma: float, T: int) -> Schedule:
    # Fractional times, where a picture has the very noise that is said: a, s and lam must belong together there.
    return _of(max_sigma, T, eps=0.04, process="denoising", interpolation="exact")


UNET, NAFNET, BLIND_NAFNET = "ConditionalUNet", "ConditionalNAFNet", "ConditionalNAFNet-denoising"
DEHAZING, BOKEH = "ConditionalNAFNet-latent-dehazing", "ConditionalNAFNet-latent-bokeh"
IRSDE = (("condition", True), ("context", 0))
UNIVERSAL = (("prompt", True), ("image", True), ("half", False))
WILD = (("prompt", False), ("image", True), ("half", True))
BLIND = (("condition", False),)
PLAIN = (("channels", 3), ("condition", True), ("outer_skip", False), ("lensed", False))
REVERSE_SDE = "reverse SDE"

PRESETS: dict[str, Preset] = {
    "irsde-derain": Preset("rain", UNET, _of(10), "posterior", 100, "deraining/test/ir-sde.yml", IRSDE),
    "irsde-deblur": Preset("motion blur", UNET, _of(10), REVERSE_SDE, 100, "deblurring/test/ir-sde.yml", IRSDE),
    # Its file for training says max_sigma 10, for a network of width 64 and depth 4.
    "irsde-deshadow": Preset("shadows", UNET, _of(30), REVERSE_SDE, 100, "deshadow/test/ir-sde.yml", IRSDE),
    "irsde-deshadow-train": Preset("shadows", UNET, _of(10), REVERSE_SDE, 100, "deshadow/train/ir-sde.yml", IRSDE),
    "irsde-inpaint": Preset("missing parts", UNET, _of(30), REVERSE_SDE, 100, "inpainting/test/ir-sde.yml", IRSDE),
    "irsde-sr": Preset("low resolution", UNET, _of(30), REVERSE_SDE, 100, "sisr/test/ir-sde.yml", IRSDE, upscale=4),
    # Its file for testing; the one for training says max_sigma 70 and T 1000.
    "irsde-denoise": Preset(
        "noise", UNET, _denoising(75, 100), "reverse ODE", 14, "denoising-sde/test/ir-sde.yml", BLIND, noise_sigma=15
    ),
    "refusion-derain": Preset("rain", NAFNET, _of(50), "posterior", 100, "deraining/test/refusion.yml", PLAIN),
    "refusion-deblur": Preset("motion blur", NAFNET, _of(50), REVERSE_SDE, 100, "deblurring/test/refusion.yml", PLAIN),
    "refusion-deshadow": Preset("shadows", NAFNET, _of(50), REVERSE_SDE, 100, "deshadow/test/refusion.yml", PLAIN),
    "refusion-inpaint": Preset(
        "missing parts", NAFNET, _of(50), REVERSE_SDE, 100, "inpainting/test/refusion.yml", PLAIN
    ),
    "refusion-sr": Preset(
        "low resolution", NAFNET, _of(50), REVERSE_SDE, 100, "sisr/test/refusion.yml", PLAIN, upscale=4
    ),
    "refusion-denoise": Preset(
        "noise", BLIND_NAFNET, _denoising(70, 1000), "reverse ODE", 158, "denoising-sde/test/refusion.yml", BLIND,
        noise_sigma=15,
    ),
    "refusion-dehaze": Preset(
        "haze", DEHAZING, _of(50), REVERSE_SDE, 100, "latent-dehazing/dehazing/test/nasde.yml",
        companion="autoencoder",
    ),
    "refusion-bokeh": Preset(
        "another lens's blur", BOKEH, _of(50), REVERSE_SDE, 100, "latent-bokeh/bokeh/test/refusion.yml",
        companion="autoencoder",
    ),
    "daclip-universal": Preset(
        "ten degradations", UNET, _of(50), "posterior", 100, "daclip-sde/test.yml", UNIVERSAL, companion="encoder"
    ),
    "daclip-wild": Preset(
        "degradations in the wild", UNET, _of(50), "posterior", 100, "wild-ir/test.yml", WILD, companion="encoder"
    ),
    "mr-sampler": Preset(
        "ten degradations", UNET, Schedule(max_sigma=50), "ODE-2", 20, "daclip-sde/mrsampler.yml", UNIVERSAL,
        companion="encoder",
    ),
}  # fmt: skip


def get(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        InputError: where there is none.
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown", hint="`mrs-trt presets` lists them")
    return PRESETS[name]
