"""How an engine compiles: its threads, and where it is built ahead of time the builder's options and range of sizes.

A plan keeps the options, so that a rebuild elsewhere has them too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from mrs.runtime.errors import InputError
from mrs.runtime.padding import padded_size

log = logging.getLogger("mrs")

Size = tuple[int, int, int]
Report = Callable[[str], None]
# The names by which users know the fields, and the values each may have.
WHOLE = {"optimization-level": range(6), "workspace-mib": range(1, 1 << 24), "auxiliary-streams": range(8)}
HARDWARE = ("same", "capability", "ampere")


@dataclass(frozen=True)
class EngineOptions:
    """Settings of a builder. The defaults are the engine's own where it has any.

    Args:
        optimization_level: 0 to 5; higher ones search longer. TensorRT's default is 3.
        workspace_mib: most memory of one operation in MiB; None for all that the device has.
        hardware: what the engine shall run on: the `same` GPU, any of the same compute `capability`, or any from
            `ampere` on. The wider, the slower.
        auxiliary_streams: most streams besides the caller's. None are needed for a network that is one chain of
            operations, and each costs memory.
        size_range: smallest, best and largest (N, H, W), padded, that one engine serves; None for one size alone.

    Raises:
        InputError: for a value out of range.
    """

    optimization_level: int = 3
    workspace_mib: int | None = None
    hardware: str = "same"
    auxiliary_streams: int = 0
    size_range: tuple[Size, Size, Size] | None = None

    def __post_init__(self) -> None:
        for name, allowed in WHOLE.items():
            value = getattr(self, name.replace("-", "_"))
            if not (value is None and name == "workspace-mib") and (type(value) is not int or value not in allowed):
                raise InputError(
                    f"engine option {name} is {value}",
                    hint=f"give a whole number from {allowed.start} to {allowed.stop - 1}",
                )
        if self.hardware not in HARDWARE:
            raise InputError(f"engine option hardware is {self.hardware}", hint=f"use one of {', '.join(HARDWARE)}")
        if self.size_range is not None:
            for low, high in zip(self.size_range, self.size_range[1:], strict=False):
                if any(small > large for small, large in zip(low, high, strict=True)):
                    raise InputError(
                        "the range of sizes does not hold the size to compile for: "
                        + ", ".join(f"{height}x{width}" for _, height, width in self.size_range),
                        hint="give the smallest and the largest size, with the plan's size between them",
                    )

    def covers(self, size: Sequence[int]) -> bool:
        """Whether one engine for the range serves pictures of a size, (N, H, W) padded."""
        if self.size_range is None:
            return False
        low, _, high = self.size_range
        return all(small <= side <= large for small, side, large in zip(low, size, high, strict=True))

    def to_dict(self) -> dict[str, object]:
        """What differs from the defaults, as JSON values."""
        default = asdict(EngineOptions())
        return {key: value for key, value in asdict(self).items() if value != default[key]}

    @staticmethod
    def from_dict(values: object) -> EngineOptions:
        """From what `to_dict` gave.

        Raises:
            InputError: for anything else.
        """
        known = {field.name for field in fields(EngineOptions)}
        if not isinstance(values, Mapping) or not known.issuperset(values):
            raise InputError("the options of the engine are not understood", hint="build the plan again")
        given = dict(values)
        sizes = given.get("size_range")
        if sizes is not None:
            if not _is_range(sizes):
                raise InputError("the range of sizes is not understood", hint="build the plan again")
            given["size_range"] = tuple(tuple(size) for size in sizes)
        return EngineOptions(**given)


def parse_options(texts: Sequence[str]) -> EngineOptions:
    """From what a user wrote, such as `["optimization-level=5", "hardware=ampere"]`.

    Raises:
        InputError: for an unknown name, or a value out of range.
    """
    given: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in (*WHOLE, "hardware"):
            raise InputError(
                f"engine option {text!r} is unknown", hint=f"use NAME=VALUE with {', '.join((*WHOLE, 'hardware'))}"
            )
        given[name.replace("-", "_")] = int(value) if name in WHOLE and value.isascii() and value.isdigit() else value
    return EngineOptions(**given)


def with_range(
    options: EngineOptions, sides: tuple[tuple[int, int], tuple[int, int]], best: Size, multiple: int
) -> EngineOptions:
    """The options with a range of sizes.

    Args:
        options: all others.
        sides: smallest and largest (H, W) of pictures.
        best: (N, H, W), padded, that the engine shall run fastest.
        multiple: to which heights and widths are padded.

    Raises:
        InputError: where `best` lies outside.
    """

    def padded(pair: tuple[int, int]) -> Size:
        return best[0], *padded_size(*pair, multiple)

    return replace(options, size_range=(padded(sides[0]), best, padded(sides[1])))


@dataclass(frozen=True)
class CompileSettings:
    """How an engine compiles a network, whatever the network is.

    Args:
        threads: most threads of an engine on a CPU.
        options: of an engine that is built ahead of time; others have none.
        report: called with a line of progress now and then. By default it goes to the log: nobody who restores a
            picture expects minutes of silence.
    """

    threads: int
    options: EngineOptions = EngineOptions()
    report: Report = log.warning


def _is_range(sizes: object) -> bool:
    return (
        isinstance(sizes, list | tuple)
        and len(sizes) == 3
        and all(isinstance(size, list | tuple) and len(size) == 3 for size in sizes)
        and all(type(side) is int and side > 0 for size in sizes for side in size)
    )
