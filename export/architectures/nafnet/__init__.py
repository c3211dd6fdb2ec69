"""ConditionalNAFNet, the denoiser of Refusion (arXiv 2304.08291): see `protocol.Architecture`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from onnx import ModelProto
from torch import Tensor

from mrs.export.architectures.nafnet.config import Config, weight_shapes
from mrs.export.architectures.nafnet.detection import infer_config
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32


@dataclass(frozen=True)
class NAFNet(Config):
    """See `protocol.Architecture`; hyper-parameters as of `Config`."""

    name: ClassVar[str] = "ConditionalNAFNet"
    padding: ClassVar[Literal["zero", "reflect"]] = "zero"

    @classmethod
    def detect(cls, state: Mapping[str, Tensor], source: str) -> NAFNet | None:
        config = infer_config(state, source)
        return None if config is None else cls(**vars(config))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        return weight_shapes(self)

    def module(self) -> ConditionalNAFNet:
        return ConditionalNAFNet(self)

    def modulation(self, net: ConditionalNAFNet, times: Sequence[float]) -> F32:
        return modulation_table(net, times)

    def graph(self, state: Mapping[str, F32], variant: GraphVariant) -> ModelProto:
        return build_graph(state, self, variant=variant)

    def conditioner(self, state: Mapping[str, F32]) -> None:
        return None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
