"""Every kernel and specialisation in use: the launches that the public functions make, on arrays without memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, product
from typing import TYPE_CHECKING, cast

from mrs.kernels.gpu import traffic, workspace
from mrs.kernels.gpu.audit import launch as audit_launch
from mrs.kernels.gpu.finish import launch as finish_launch
from mrs.kernels.gpu.launch import Launch
from mrs.kernels.gpu.mirror import launch as mirror_launch
from mrs.kernels.gpu.scale import Tables
from mrs.kernels.gpu.scale import launches as scale_launches
from mrs.kernels.gpu.start import launch as start_launch
from mrs.kernels.gpu.step import launch as step_launch
from mrs.kernels.gpu.tables import FIELDS
from mrs.kernels.gpu.threshold import launches as threshold_launches
from mrs.kernels.gpu.traffic import Traffic
from mrs.kernels.scaling import CLIP, STRETCH, fit_of
from mrs.kernels.table import Row

if TYPE_CHECKING:
    from torch import Tensor

NETWORKS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
PICTURES = {"uint8": "u8", "float32": "f32"}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1, "int32": 4, "uint32": 4}
# A row with every weight, so that nothing of a kernel is left out.
FULL = Row(*[1.0] * len(Row._fields))
# Channels, width of the picture, width of the state: whole groups of every type; a picture that was padded to them,
# which is as one of another number of channels; and nothing whole.
LAYOUTS = {"wide": (3, 256, 256), "padded": (4, 250, 256), "any": (3, 250, 251)}
_addresses = count(2**20, 2**40)


@dataclass(frozen=True)
class Array:
    """Shape, type and layout of a tensor, as far as launches ask for them."""

    shape: tuple[int, ...]
    dtype: str  # as torch prints it
    channels_last: bool = False
    device: str = "cuda:0"
    address: int = field(default_factory=lambda: next(_addresses))

    @classmethod
    def of(cls, dtype: str, *shape: int, channels_last: bool = False) -> Tensor:
        """An array of a type named as NumPy names it; `channels_last` puts the second of four dimensions last.

        To the type checker it passes for any tensor.
        """
        return cast("Tensor", cls(shape, f"torch.{dtype}", channels_last))

    def __len__(self) -> int:
        return self.shape[0]

    def numel(self) -> int:
        """Number of elements."""
        total = 1
        for size in self.shape:
            total *= size
        return total

    def element_size(self) -> int:
        """Bytes of an element."""
        return BYTES[self.dtype.removeprefix("torch.")]

    def data_ptr(self) -> int:
        """An address that no other array comes near, as aligned as those of an allocator."""
        return self.address

    def stride(self) -> tuple[int, ...]:
        """Strides in elements."""
        order = (0, 2, 3, 1) if self.channels_last else tuple(range(len(self.shape)))
        strides, step = [0] * len(self.shape), 1
        for dimension in reversed(order):
            strides[dimension], step = step, step * self.shape[dimension]
        return tuple(strides)


@dataclass(frozen=True)
class Case:
    """One specialisation.

    Attributes:
        name: kernel and types, unique.
        launch: on a picture of about 256x256; the compiled code serves any size.
        traffic: what a full row moves; None for kernels that work on counts, not on pixels.
        wide: whether the layout allows accesses of 16 bytes throughout.
    """

    name: str
    launch: Launch
    traffic: Traffic | None
    wide: bool

    @property
    def elements(self) -> int:
        """Elements of a state in a program's tile."""
        constants = self.launch.constants
        planes = 3 if self.launch.name.endswith("pixels") else 1
        return int(constants["GROUPS"] * constants["GROUP"] * planes)


def cases() -> list[Case]:
    """All of them, the wide ones first."""
    found: dict[str, Case] = {}
    for layout in LAYOUTS:
        for case in _cases(layout):
            # Where neither picture nor channels concern a kernel, a padded picture's is the wide one.
            found.setdefault(case.name, case)
    one = threshold_launches(*_arrays("float32", False, 3, 256), _counts(), _bounds(), 0, (256, 256))
    counting = (Case(launch.name, launch, None, False) for launch in (one[1], one[3]))
    return [*found.values(), *_mirrors(), *_scales(), *counting]


def _mirrors() -> Iterator[Case]:
    """A margin is a few lines and columns, of which no access is wide."""
    for dtype, channels_last in product(NETWORKS, (False, True)):
        launch = mirror_launch(Array.of(dtype, 1, 6, 256, 256, channels_last=channels_last), (250, 251))
        if launch is not None:
            yield Case(f"{launch.name}_{NETWORKS[dtype]}{'_last' if channels_last else ''}", launch, None, False)


def _scales() -> Iterator[Case]:
    """What is read is as little as a whole picture allows, but mostly from caches: no count of accesses tells."""
    for (resize, tail), (kind, short) in product(((CLIP, "_levels"), (STRETCH, "")), PICTURES.items()):
        fit = fit_of(256, 250, 224, resize)
        arrays = [each for taps in (fit.columns, fit.rows) for each in taps]
        tables = Tables(*(Array.of(str(each.dtype), *each.shape) for each in arrays))
        lines = Array.of("uint8" if fit.levels else "float32", 3, fit.height, fit.side)
        target = Array.of("float32", 1, 3, fit.side, fit.side)
        columns, rows = scale_launches(Array.of(kind, 1, 256, 250, 3), 0, fit, tables, lines, target)
        yield Case(f"{columns.name}_{short}{tail}", columns, None, False)
        if kind == "uint8":
            yield Case(f"{rows.name}{tail}", rows, None, False)


def _cases(layout: str) -> Iterator[Case]:
    channels, width, padded = LAYOUTS[layout]
    size, wide = (256, width), layout == "wide"
    for dtype, channels_last in product(NETWORKS, (False, True)):
        network, tail = (
            BYTES[dtype],
            f"{NETWORKS[dtype]}{'_last' if channels_last else ''}{'_any' if layout == 'any' else ''}",
        )
        x, mu, output, records = _arrays(dtype, channels_last, channels, padded)
        tables = (records, Array.of("uint32", 4))
        history, packed = (
            Array.of("float32", 3, *x.shape),
            Array.of(dtype, 1, 2 * channels, *x.shape[2:], channels_last=channels_last),
        )
        launch = step_launch(x, mu, output, history, packed, *tables, _bounds(), 0, size)
        yield Case(
            f"{launch.name}_{tail}", launch, traffic.of_step(FULL, True, network, launch.name == "step_pixels"), wide
        )
        for picture_kind, short in PICTURES.items():
            picture, bytes_ = Array.of(picture_kind, 1, *size, channels), BYTES[picture_kind]
            launch = start_launch(picture, mu, x, packed, *tables)
            yield Case(f"{launch.name}_{short}_{tail}", launch, traffic.of_start(network, channels_last, bytes_), wide)
            launch = finish_launch(x, mu, output, history, picture, *tables, _bounds(), 0)
            yield Case(
                f"{launch.name}_{short}_{tail}", launch, traffic.of_finish(FULL, network, channels_last, bytes_), wide
            )
        # One value more than whole groups.
        values = output if layout != "any" else Array.of(dtype, 1, 1, 1, 257)
        launch = audit_launch(values, Array.of("int32", 1))
        # Its layout does not concern it.
        name = f"{launch.name}_{NETWORKS[dtype]}{'_any' if layout == 'any' else ''}"
        yield Case(name, launch, traffic.of_audit(network), wide)
        coarse, _, fine, _ = threshold_launches(x, mu, output, records, _counts(), _bounds(), 0, size)
        yield Case(f"{coarse.name}_coarse_{tail}", coarse, traffic.of_count(network, channels_last), wide)
        yield Case(f"{fine.name}_fine_{tail}", fine, traffic.of_count(network, channels_last), wide)


def _arrays(dtype: str, channels_last: bool, channels: int, wide: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, mu, the network's output, the records."""
    shape = (1, channels, 256, wide)
    state = Array.of("float32", *shape), Array.of("float32", *shape)
    return *state, Array.of(dtype, *shape, channels_last=channels_last), Array.of("float32", 2, FIELDS)


def _counts() -> Tensor:
    return Array.of("int32", *workspace(1))


def _bounds() -> Tensor:
    return Array.of("float32", 1)
