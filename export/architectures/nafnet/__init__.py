"""The networks of Refusion (arXiv 2304.08291), all named ConditionalNAFNet there: see `protocol.Architecture`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Literal

from onnx import ModelProto
from torch import Tensor

from mrs.export.architectures.nafnet.config import Config, weight_shapes
from mrs.export.architectures.nafnet.detection import infer_config, infer_traits
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import BokehNAFNet, ConditionalNAFNet, DenoisingNAFNet, NAFNetModule
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32


@dataclass(frozen=True)
class NAFNet(Config):
    """The network for pictures; hyper-parameters as of `Config`."""

    name: ClassVar[str] = "ConditionalNAFNet"
    in_variants: ClassVar[bool] = True
    calibration_side: ClassVar[int] = 256
    context: ClassVar[int] = 0
    latent: ClassVar[bool] = False
    padding: ClassVar[Literal["zero", "reflect"]] = "zero"

    @classmethod
    def detect(cls, state: Mapping[str, Tensor], source: str) -> NAFNet | None:
        config = infer_config(state, source)
        if config is None or infer_traits(state) != (cls.condition, cls.outer_skip, cls.lensed):
            return None
        return cls.like(config)

    @classmethod
    def like(cls, config: Config) -> NAFNet:
        """The network of this kind with another's hyper-parameters."""
        return cls(**{each.name: getattr(config, each.name) for each in fields(Config)})

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        return weight_shapes(self)

    def module(self) -> NAFNetModule:
        return ConditionalNAFNet(self)

    def modulation(self, net: NAFNetModule, times: Sequence[float]) -> F32:
        return modulation_table(net, times)

    def graph(self, state: Mapping[str, F32], variant: GraphVariant) -> ModelProto:
        return build_graph(state, self, variant=variant)

    def conditioner(self, state: Mapping[str, F32], encoder: object = None) -> None:
        return None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class NAFNetDenoising(NAFNet):
    """The network for noise: it sees the state alone."""

    name: ClassVar[str] = "ConditionalNAFNet-denoising"
    condition: ClassVar[bool] = False

    def module(self) -> NAFNetModule:
        return DenoisingNAFNet(self)


@dataclass(frozen=True)
class NAFNetLatentDehazing(NAFNet):
    """The network for latents of hazy pictures: the plain one's weights by name and shape, and one skip more."""

    name: ClassVar[str] = "ConditionalNAFNet-latent-dehazing"
    latent: ClassVar[bool] = True
    outer_skip: ClassVar[bool] = True


@dataclass(frozen=True)
class NAFNetLatentBokeh(NAFNet):
    """The network for latents of pictures whose lens is to be another.

    Args:
        lenses: the source lens and the wanted one, as ten times their f-number, which is negative for Canon's, and the
            disparity; None where they are not known yet.
    """

    name: ClassVar[str] = "ConditionalNAFNet-latent-bokeh"
    latent: ClassVar[bool] = True
    lensed: ClassVar[bool] = True

    lenses: tuple[float, float, float] | None = None

    def module(self) -> NAFNetModule:
        return BokehNAFNet(self)


KINDS: tuple[type[NAFNet], ...] = (NAFNet, NAFNetDenoising, NAFNetLatentDehazing, NAFNetLatentBokeh)
