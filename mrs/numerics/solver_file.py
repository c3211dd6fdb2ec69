"""A solver in a file, as `mrs-trt tune` writes it and `mrs-trt build --solver FILE.json` reads it: JSON, one object.

    {"format": "mrs-trt solver", "format_version": 1, "solver": {...}, "schedule": {...}, ...}

`solver` has the arguments of `mrs.Solver`, `schedule` those of `mrs.Schedule` for which it was found; everything else
tells how it was found and is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.runtime.errors import InputError
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.regular_files import open_regular

FORMAT = "mrs-trt solver"
FORMAT_VERSION = 1
# A solver file is some kilobytes.
LIMIT = 1 << 20
HINT = "make one with: mrs-trt tune CHECKPOINT -o FILE.json"


def write_solver(
    path: str | Path, solver: Solver, schedule: Schedule, about: Mapping[str, object], overwrite: bool = True
) -> None:
    """Write a solver, the schedule it is for, and JSON values about how it was found; whole or not at all.

    Raises:
        InputError: where it cannot be written, or exists and `overwrite` is not given.
    """
    content = {
        "format": FORMAT, "format_version": FORMAT_VERSION,
        "solver": solver.to_dict(), "schedule": schedule.to_dict(), **about,
    }  # fmt: skip
    with replacing(Path(path), overwrite) as file:
        file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_solver(path: str | Path) -> tuple[Solver, Schedule]:
    """The solver in a file, and the schedule it is for.

    Raises:
        InputError: for a file that is missing, is no such file, or holds a solver that cannot be.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            text = file.read(LIMIT + 1)
    except OSError as error:
        raise InputError(f"solver file {path} cannot be read: {error.strerror}", hint=HINT) from None
    try:
        if len(text) > LIMIT:
            raise ValueError("it is too large")
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"it does not say {FORMAT!r}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no solver file: {error}", hint=HINT) from None
    if content.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"solver file {path} has format version {content.get('format_version')!r}, this program reads "
            f"{FORMAT_VERSION}",
            hint="tune again with this version",
        )
    try:
        return Solver(**content["solver"]), Schedule(**content["schedule"])
    except KeyError as error:
        raise InputError(f"solver file {path} lacks {error}", hint=HINT) from None
    except (TypeError, OverflowError) as error:
        raise InputError(f"solver file {path} is not understood: {error}", hint=HINT) from None
    except InputError as error:
        raise InputError(f"solver file {path}: {error.message}", hint=error.hint or HINT) from None
