"""The published network of a plan's checkpoint, held to the plan: a rival with other weights would be another's."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mrs.benchmarking.rivals.gate import exact_engine
from mrs.benchmarking.rivals.rival import Companions, Pictures
from mrs.building.made_for import MadeFor
from mrs.building.source import Conditioned, Source, read_source
from mrs.export.architectures.clip import DACLIPEncoder, normalised
from mrs.export.architectures.latent_unet import LatentUNet
from mrs.kernels.update import Pixels
from mrs.numerics.schedule import Schedule
from mrs.runtime import backends
from mrs.runtime.backends.protocol import F32
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.codec import codec_of
from mrs.runtime.conditioner import conditioner_of, scaled
from mrs.runtime.errors import BackendError, CheckpointError, PlanError
from mrs.runtime.padding import padded_size
from mrs.runtime.plan import Plan

# Largest difference of one float32 evaluation from the plan's, relative to the largest output: a build's own.
TOLERANCE = 1e-3
# Of the pictures on which it is looked for, up to what the network takes.
SIDE = 32


@dataclass(frozen=True)
class PublishedNetwork:
    """What torch restores with.

    Attributes:
        source: the checkpoint with its process.
        device: `cpu` or `cuda`, where the plan restores.
    """

    source: Source
    device: str

    @cached_property
    def network(self) -> nn.Module:
        """Float32, on the device; called as the published code calls it."""
        return self._placed(self.source.network)

    @cached_property
    def autoencoder(self) -> LatentUNet | None:
        """What makes latents and pictures of them; None where pictures themselves are restored."""
        weights = self.source.autoencoder
        return None if weights is None else cast(LatentUNet, self._placed(weights.module()))

    def shape(self, pictures: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the state for pictures (N, H, W)."""
        count, *sides = pictures
        if self.source.autoencoder is not None:
            coder = self.source.autoencoder.arch
            sides = [side // coder.scale for side in padded_size(sides[0], sides[1], coder.multiple)]
        return count, self.source.arch.channels, sides[0], sides[1]

    def told(self, pictures: Pixels) -> tuple[Tensor, ...]:
        """What the network takes of whole pictures (N, H, W, C), in its order."""
        conditioner = self.source.conditioner
        if conditioner is None:
            return ()
        small = torch.stack([torch.from_numpy(scaled(each, conditioner.side, conditioner.resize)) for each in pictures])
        if self._encoder is None:
            return (cast(Conditioned, self.network).condition(small.to(self.device)),)
        image, degradation = self._encoder(normalised(small).to(self.device))
        return degradation, image

    @cached_property
    def _encoder(self) -> DACLIPEncoder | None:
        weights = self.source.encoder
        return None if weights is None else cast(DACLIPEncoder, self._placed(weights.module()))

    def _placed(self, module: nn.Module) -> nn.Module:
        # The source's own stays where it is: a module moves in place.
        return module if self.device == "cpu" else deepcopy(module).to(self.device)


def read_network(plan: Plan, checkpoint: Path, companions: Companions, threads: int) -> PublishedNetwork:
    """The network in a checkpoint, of which it was seen that the plan evaluates the same.

    Raises:
        PlanError: for a plan that does not say its process.
        CheckpointError: for a checkpoint that cannot be read, or has other weights than the plan.
        InputError: for companions that are missing or do not belong.
        BackendError: where nothing here evaluates the plan's graph in float32.
    """
    said = plan.manifest
    try:
        schedule, output, network = Schedule(**said["schedule"]), str(said["output"]), dict(said["network"])
        lenses = network.get("lenses")
        made_for = MadeFor(
            architecture=network["architecture"],
            encoder=companions.encoder,
            encoder_heads=companions.encoder_heads,
            noise_sigma=said.get("noise_sigma"),
            upscale=said.get("upscale"),
            autoencoder=companions.autoencoder,
            lenses=None if lenses is None else tuple(lenses),
        )
    except (KeyError, TypeError, ValueError):
        raise PlanError("the plan does not say its process and its network", hint="build it again") from None
    source = read_source(checkpoint, schedule, output, override=True, made_for=made_for)
    _check_weights(source, plan, threads)
    return PublishedNetwork(source, backends.get(plan.facts.backend).device)


def _check_weights(source: Source, plan: Plan, threads: int) -> None:
    """One evaluation of random numbers, and for latents one way there and back, by torch and by the plan's graphs."""
    name = plan.manifest.get("checkpoint", {}).get("name", "another checkpoint")
    refused = CheckpointError(
        f"{source.path} has other weights than the plan", hint=f"give the checkpoint that it was built from, {name}"
    )
    if source.arch.channels != plan.facts.network.channels or (source.codec is None) != (plan.facts.latent is None):
        raise refused
    engine, random = exact_engine(plan), np.random.default_rng(0)
    height, width = padded_size(SIDE, SIDE, source.arch.multiple)
    mu = random.random((1, source.arch.channels, height, width), np.float32)
    x = (mu + source.schedule.S * random.standard_normal(mu.shape)).astype(np.float32)
    picture = random.integers(0, 256, (*padded_size(SIDE, SIDE, source.multiple), source.channels), np.uint8)
    shape = 1, 2 * mu.shape[1], height, width
    network = engine.compile(plan.graph, plan.modulation[:1], shape, "fp32", CompileSettings(threads))
    condition = conditioner_of(plan, threads)
    if (condition is None) != (network.context is None) or (condition is None) != (source.conditioner is None):
        raise refused
    if condition is not None:
        network.context[...] = condition(picture[None]).reshape(network.context.shape)
    network.packed[...] = np.concatenate([x - mu, mu], axis=1)
    network.evaluate(0)
    pairs = [(network.output, source.evaluate(x, mu, plan.table.times[0], picture))]
    if source.autoencoder is not None:
        pairs += _coded(source, plan, picture[None], threads)
    for found, expected in pairs:
        if not np.isfinite(expected).all():
            raise BackendError("the network gives infinities or NaN in torch float32", hint="check its weights")
        # False for NaN too.
        if not np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max():
            raise refused


def _coded(source: Source, plan: Plan, pictures: Pictures, threads: int) -> list[tuple[F32, F32]]:
    """Latents of pictures, and pictures of these: the plan's, and torch's."""
    codec = codec_of(plan)
    assert codec is not None
    assert source.autoencoder is not None
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    with torch.inference_mode():
        module = source.autoencoder.module()
        latents, hidden = module.encode(torch.from_numpy(planes))
        restored = module.decode(latents, hidden)
    coder = codec.compile(planes.shape, threads)
    found = coder.encode(pictures).copy()
    return [(found, latents.numpy()), (coder.decode(found, pictures.shape[1:3]), restored.numpy())]
