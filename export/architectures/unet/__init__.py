"""The UNets of IR-SDE (arXiv 2301.11699) and DA-CLIP (arXiv 2310.01018): see `protocol.Architecture`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from onnx import ModelProto
from torch import Tensor

from mrs.export.architectures.protocol import Conditioner
from mrs.export.architectures.unet.config import Config
from mrs.export.architectures.unet.context import Encoder, conditioner_of
from mrs.export.architectures.unet.detection import infer_config
from mrs.export.architectures.unet.graph import build_graph
from mrs.export.architectures.unet.modulation import modulation_table
from mrs.export.architectures.unet.module import UNet, module_of
from mrs.export.architectures.unet.weights import weight_shapes
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32
from mrs.runtime.errors import InputError


@dataclass(frozen=True)
class ConditionalUNet(Config):
    """See `protocol.Architecture`; hyper-parameters as of `Config`."""

    name: ClassVar[str] = "ConditionalUNet"
    in_variants: ClassVar[bool] = False
    calibration_side: ClassVar[int] = 128
    latent: ClassVar[bool] = False
    lensed: ClassVar[bool] = False
    padding: ClassVar[Literal["zero", "reflect"]] = "reflect"

    @classmethod
    def detect(cls, state: Mapping[str, Tensor], source: str) -> ConditionalUNet | None:
        config = infer_config(state, source)
        return None if config is None else cls(**vars(config))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        return weight_shapes(self)

    def module(self) -> UNet:
        return module_of(self)

    def modulation(self, net: UNet, times: Sequence[float]) -> F32:
        return modulation_table(net, times)

    def graph(self, state: Mapping[str, F32], variant: GraphVariant) -> ModelProto:
        # In every variant alike: what else engines were measured to run fastest is one form for all here.
        return build_graph(state, self)

    def conditioner(self, state: Mapping[str, F32], encoder: Encoder | None = None) -> Conditioner | None:
        """See `protocol.Architecture`.

        Args:
            state: the network's weights.
            encoder: what gives DA-CLIP's features of a picture.

        Raises:
            InputError: where a network that is told of features is given no encoder, or another's.
        """
        if not self.context:
            return None
        if encoder is None:
            raise InputError(
                f"this network is told {self.context} features of the picture", hint="give the encoder's checkpoint too"
            )
        return conditioner_of(state, self, encoder)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
