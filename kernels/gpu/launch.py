"""How a kernel is launched: what `step` and the others carry out, and what a report or an ahead-of-time build reads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mrs.kernels.gpu.arrays import WIDE_BYTES, Geometry, is_wide

if TYPE_CHECKING:
    from torch import Tensor

# Of accesses to single elements more in flight would only need more registers. Noise comes in fours.
NARROW_GROUP = 4
# Triton lets other threads have a kernel between making its launcher and loading its code, and then launches nothing
# (3.6; triton-lang/triton pull request 11518, open in August 2026). Whoever launches for the first time is alone.
_LOADING = threading.RLock()


@dataclass(frozen=True)
class Launch:
    """One kernel on its arguments.

    Attributes:
        kernel: the jitted function.
        grid: programs in x and y.
        arguments: tensors and integers, in the kernel's order.
        constants: what it is compiled for, by name.
        warps: of a program.
    """

    kernel: Any
    grid: tuple[int, int]
    arguments: tuple[Tensor | int, ...]
    constants: Mapping[str, int | bool]
    warps: int
    _loaded: list[None] = field(default_factory=list, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The kernel's name."""
        return str(self.kernel.__name__)

    def run(self) -> None:
        """Launch on the current stream; nothing waits for it. The first time compiles and loads what is not yet.

        Raises:
            ValueError: where the arrays are on another GPU than the current one, on which it would run.
        """
        place = next((each.device for each in self.arguments if not isinstance(each, int)), None)
        if place is not None and place.type == "cuda" and place.index != current_gpu():
            raise ValueError(
                f"the arrays are on {place}, the current GPU is cuda:{current_gpu()}: use torch.cuda.device"
            )
        if self._loaded:
            self._launch()
            return
        with _LOADING:
            self._launch()
        self._loaded.append(None)

    def _launch(self) -> None:
        self.kernel[self.grid](*self.arguments, **self.constants, **options(self.warps))


def current_gpu() -> int:
    """Number of the GPU that Triton would launch on."""
    from triton.runtime import driver

    return int(driver.active.get_current_device())


def options(warps: int) -> dict[str, object]:
    """For the compiler. Products and sums stay apart, so that rows give the bits of kernels/update.py anywhere."""
    return {"num_warps": warps, "enable_fp_fusion": False}


@dataclass(frozen=True)
class Shape:
    """How the pixels of a batch are cut into programs, see tile.py.

    Attributes:
        grid: tiles, then planes or pictures.
        runs: of GROUP pixels in a line.
        exact: whether these fill the lines.
        constants: GROUPS and GROUP, the size of a tile.
        warps: of a program.
    """

    grid: tuple[int, int]
    runs: int
    exact: bool
    constants: dict[str, int]
    warps: int

    @classmethod
    def of_planes(cls, geometry: Geometry, channels_last: bool, network: Tensor) -> Shape:
        """A tile of a plane, a run for each of 128 threads: 16 bytes of the network's array where they lie together."""
        group = WIDE_BYTES // network.element_size()
        if channels_last or geometry.padded_width % group:
            group = NARROW_GROUP
        return cls._of(geometry, group, 128 * group, geometry.images * geometry.channels, 4)

    @classmethod
    def of_pictures(cls, geometry: Geometry, group: int, each: int, warps: int = 1) -> Shape:
        """A tile of all planes of a picture, `each` pixels for each thread.

        A single warp regroups its pixels without a barrier.
        """
        return cls._of(geometry, group, 32 * warps * each, geometry.images, warps)

    @classmethod
    def _of(cls, geometry: Geometry, group: int, pixels: int, planes: int, warps: int) -> Shape:
        runs, groups = -(-geometry.padded_width // group), pixels // group
        tiles = -(-geometry.padded_height * runs // groups)
        return cls(
            (tiles, planes), runs, runs * group == geometry.padded_width, {"GROUPS": groups, "GROUP": group}, warps
        )


def launch_of_planes(kernel: Any, geometry: Geometry, channels_last: bool, network: Tensor, *arguments: Any) -> Launch:
    """A kernel with a program for each tile of each plane; sizes follow its own arguments, in the order of `Geometry`.

    Args:
        kernel: the jitted function.
        geometry: of the batch.
        channels_last: whether the network has its channels last.
        network: the network's array that the kernel reads or writes.
        arguments: tensors and integers of its own.
    """
    g, shape = geometry, Shape.of_planes(geometry, channels_last, network)
    sizes = (g.channels, g.height, g.width, shape.runs, g.padded_height, g.padded_width)
    constants = {"CHANNELS_LAST": channels_last, **shape.constants, "EXACT": shape.exact}
    return Launch(kernel, shape.grid, (*arguments, *sizes), constants, shape.warps)


def shape_of_pictures(
    geometry: Geometry, channels_last: bool, picture: Tensor, network: Tensor, *others: Tensor
) -> Shape | None:
    """For a kernel that reads or writes interleaved pictures in accesses of 16 bytes; None where it cannot.

    Args:
        geometry: of the batch.
        channels_last: whether the network has its channels last.
        picture: (N, H, W, C).
        network: the network's array that the kernel reads or writes.
        others: what else must begin where such accesses may begin.
    """
    group = WIDE_BYTES // picture.element_size()
    run = max(group, WIDE_BYTES // network.element_size())
    if geometry.channels != 3 or geometry.width % group or geometry.padded_width % run:
        return None
    if not is_wide(picture, network, *others):
        return None
    # In planes of half precision only eight neighbours are 16 bytes.
    each = 4 if channels_last else WIDE_BYTES // network.element_size()
    return Shape.of_pictures(geometry, run, each)
