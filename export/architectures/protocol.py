"""What a network must offer to be built: the door through which a new one comes in. docs/architecture.md tells how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from onnx import ModelProto
from torch import Tensor, nn

from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32

if TYPE_CHECKING:
    from mrs.export.architectures.clip import EncoderWeights


@dataclass(frozen=True)
class Conditioner:
    """What a network is told of the whole picture, once for each, before the first evaluation.

    Attributes:
        graph: an ONNX model from `packed`, (N, C, side, side) float32 in [0, 1], to `output`, (N, length, 1, 1).
        side: of what the degraded picture is made to fit, whatever its own sides are.
        length: of the vector that it gives, which the network's graph has as its input `context`.
        resize: how the picture is scaled, as `mrs.runtime.conditioner.scaled` takes it.
    """

    graph: ModelProto
    side: int
    length: int
    resize: Literal["stretch", "clip"] = "stretch"


class Architecture(Protocol):
    """A kind of network with the hyper-parameters of one.

    Attributes:
        name: of the kind, as in plans and errors.
        channels: of the pictures.
        multiple: of the sides that it takes; smaller pictures are padded.
        padding: with what.
        bytes_per_pixel: memory of its activations for one pixel of a picture.
        bytes_per_pixel_on: the same by engine, where one takes more: `onnxruntime`, `torch`. Measured by
            `python -m benchmarks.experiments.memory`, in float32.
        bytes_per_pair: the same for each pair of pixels, on engines that write the attention of all to all down; 0
            where there is none.
        condition: whether it is told of the degraded picture; networks that take noise away are not.
        context: length of an encoder's features that it is told of the picture; 0 where it is told none.
        latent: whether it restores latents that an autoencoder makes of pictures, whatever their channels.
        lensed: whether it is told of two lenses.
        calibration_side: of the pictures that a build restores in a hundred steps to judge rounding by: smaller for
            networks of which one evaluation takes seconds.
        in_variants: whether its graph can be written down in several ways, or is one for all engines.
    """

    name: ClassVar[str]
    in_variants: ClassVar[bool]
    calibration_side: ClassVar[int]
    padding: ClassVar[Literal["zero", "reflect"]]

    @property
    def channels(self) -> int: ...

    @property
    def multiple(self) -> int: ...

    @property
    def bytes_per_pixel(self) -> int: ...

    @property
    def bytes_per_pixel_on(self) -> Mapping[str, int]: ...

    @property
    def bytes_per_pair(self) -> float: ...

    @property
    def condition(self) -> bool: ...

    @property
    def context(self) -> int: ...

    @property
    def latent(self) -> bool: ...

    @property
    def lensed(self) -> bool: ...

    @property
    def summary(self) -> str:
        """The hyper-parameters in a few words, for `mrs-trt inspect`."""

    @classmethod
    def detect(cls, state: Mapping[str, Tensor], source: str) -> Self | None:
        """The hyper-parameters, from keys and shapes alone; None for weights of another kind.

        Args:
            state: a flat state dict.
            source: where it is from, for errors.

        Raises:
            CheckpointError: for weights that are clearly of this kind, and of no network of it.
        """

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Keys and shapes of the weights, without making a module: what a file claims may be of any size."""

    def module(self) -> nn.Module:
        """The network in torch, called as `net(x, mu, t)`: x and mu (N, C, H, W) float in picture units, t a number.

        One with a conditioner is called as `net(x, mu, t, context)`, and its method `condition` makes that context,
        (N, length), from pictures (N, C, side, side).
        """

    def modulation(self, net: Any, times: Sequence[float]) -> F32:
        """All that depends on time alone, (len(times), M) float32: the graph's input `modulation`, a row for each step.

        Args:
            net: what `module` made, with its weights.
            times: in forward steps.
        """

    def graph(self, state: Mapping[str, F32], variant: GraphVariant) -> ModelProto:
        """The network as ONNX, for any size and batch: `packed`, `modulation` and perhaps `context` to `output`.

        Args:
            state: float32 weights.
            variant: how to write it down.
        """

    def conditioner(self, state: Mapping[str, F32], encoder: EncoderWeights | None = None) -> Conditioner | None:
        """What depends on the picture alone; None where nothing does.

        Args:
            state: float32 weights.
            encoder: what gives the features of a picture that the network is told.

        Raises:
            InputError: for a network that is told of features, without an encoder or with one of other features.
        """

    def to_dict(self) -> dict[str, object]:
        """The hyper-parameters as JSON values, for a plan."""
