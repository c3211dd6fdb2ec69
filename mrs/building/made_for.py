"""What a caller says of a checkpoint that does not say it itself, and what of that its network can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, cast

from mrs.export.architectures import Architecture
from mrs.export.architectures.latent_unet import AutoencoderWeights
from mrs.export.architectures.nafnet import NAFNet
from mrs.numerics.schedule import Schedule
from mrs.runtime.errors import CheckpointError, InputError
from mrs.runtime.manifest import MOST_UPSCALE
from mrs.runtime.whole_numbers import check_number, check_whole, is_number, shown

COLOURS = 3


@dataclass(frozen=True)
class MadeFor:
    """What a caller says of a checkpoint that it does not say itself.

    Attributes:
        preset: name of a published setting, see `mrs.presets`.
        architecture: name of its network, where the weights of several look alike.
        encoder: path of the encoder that its network is told the features of.
        encoder_heads: of that encoder's attention; None for CLIP's rule, its width by 64.
        noise_sigma: how noisy the pictures are, in 0..255 units, for a network that takes noise away.
        upscale: by what pictures are enlarged first, for a network of super-resolution; None for what the preset says.
        autoencoder: path of what makes latents of pictures and back, for a network that restores latents.
        lenses: the source lens and the wanted one, as ten times their f-number, negative for Canon's, and the
            disparity, for a network that is told of them.
    """

    preset: str | None = None
    architecture: str | None = None
    encoder: str | Path | None = None
    encoder_heads: int | None = None
    noise_sigma: float | None = None
    upscale: int | None = None
    autoencoder: str | Path | None = None
    lenses: tuple[float, float, float] | None = None


def check_kind(arch: Architecture, schedule: Schedule, path: Path) -> None:
    """A network that is not told of the degraded picture takes noise away, and no other does."""
    if schedule.denoises == arch.condition:
        nafnet = isinstance(arch, NAFNet)
        preset = (
            "refusion-derain" if arch.condition and nafnet
            else "irsde-derain" if arch.condition
            else "refusion-denoise" if nafnet
            else "irsde-denoise"
        )  # fmt: skip
        what = "restores what is degraded" if arch.condition else "takes noise away"
        raise CheckpointError(
            f"{path} {what}, and the process is {schedule.process}",
            hint=f"give its preset, such as {preset}: `mrs-trt presets` lists them",
        )


def check_autoencoder(arch: Architecture, found: AutoencoderWeights | None, path: Path) -> None:
    """A network of latents has what makes them, of its own kind, and no other has any."""
    if found is None:
        if arch.latent:
            raise CheckpointError(
                f"{path} restores latents of {arch.channels} channels", hint="build it with --autoencoder FILE"
            )
        if arch.channels != COLOURS:
            raise CheckpointError(f"{path} is for pictures of {arch.channels} channels", hint="3 are supported")
        return
    if not isinstance(arch, NAFNet) or not arch.condition:
        raise InputError(f"{path} restores no latents", hint="leave the autoencoder out")
    if (found.arch.channels, found.arch.latent) != (COLOURS, arch.channels):
        raise CheckpointError(
            f"{found.path} makes latents of {found.arch.latent} channels from pictures of "
            f"{found.arch.channels}, and {path} is for {arch.channels} from {COLOURS}",
            hint="give the autoencoder that was published beside it",
        )


def told_of_lenses(arch: Architecture, said: MadeFor, path: Path) -> Architecture:
    """A network of lenses with those that were said."""
    if not arch.lensed:
        if said.lenses is not None:
            raise InputError(f"{path} is told of no lenses", hint="leave them out")
        return arch
    if said.lenses is None:
        raise InputError(
            "the lenses are not said", hint="give --lens SOURCE,WANTED,DISPARITY (lenses=), such as -18,160,32"
        )
    lenses: object = said.lenses
    numbers = list(lenses) if isinstance(lenses, Sequence) else []
    if len(numbers) != 3 or not all(is_number(lens) and isfinite(lens) for lens in numbers):
        raise InputError(f"lenses {shown(lenses)} are not three numbers", hint="give such as -18,160,32")
    told: Any = arch
    return cast(Architecture, replace(told, lenses=said.lenses))


def check_encoder(arch: Architecture, said: MadeFor, path: Path) -> None:
    """An encoder is given for networks that are told the features of a picture alone."""
    if said.encoder is None:
        if said.encoder_heads is not None:
            raise InputError("encoder heads without an encoder", hint="give the encoder's checkpoint too")
        return
    if not arch.context:
        raise InputError(f"{path} is told nothing of an encoder's", hint="leave the encoder out")


def noise_of(schedule: Schedule, sigma: float | None) -> float | None:
    """How noisy pictures are, which a network that takes noise away must be told, and no other."""
    if not schedule.denoises:
        if sigma is not None:
            raise InputError("a noise is said for a network that takes none away", hint="leave noise_sigma out")
        return None
    if sigma is None:
        raise InputError("how noisy the pictures are is not said", hint="give noise_sigma, such as 25")
    check_number("noise_sigma", sigma, hint="give it in 0..255 units, such as 25")
    schedule.time_of_noise(sigma)
    return sigma


def upscale_of(schedule: Schedule, factor: int) -> int:
    """By what pictures are enlarged first."""
    check_whole("upscale", factor, 1, MOST_UPSCALE, hint="give what the network was trained for, such as 4")
    if factor > 1 and schedule.denoises:
        raise InputError("noise of pictures that are enlarged is no longer noise", hint="leave upscale out")
    return int(factor)
