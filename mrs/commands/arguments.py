"""Types and checks of arguments that several commands share."""

from __future__ import annotations

import argparse
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs.runtime.errors import InputError
from mrs.runtime.system import machine

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

    SubParsers = _SubParsersAction[ArgumentParser]


def size(text: str) -> tuple[int, int]:
    """`HxW`, such as 256x384, as (height, width)."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or min(int(match[1]), int(match[2])) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH in pixels, such as 256x384")
    return int(match[1]), int(match[2])


def positive(text: str) -> int:
    """A whole number from 1."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def pixels(text: str) -> int:
    """A number of pixels."""
    if not re.fullmatch(r"\d{1,15}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels")
    return int(text)


def natural(text: str) -> int:
    """A whole number from 0."""
    if not re.fullmatch(r"\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, such as 1,1,1,4."""
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,1,1,4")
    return tuple(int(part) for part in text.split(","))


def seed(text: str) -> int:
    """0 to 2^32 - 1."""
    if not re.fullmatch(r"\d{1,10}", text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def threads(text: str) -> int:
    """A number of threads. More than there are processors would only wait for each other."""
    return min(positive(text), machine.threads())


def megabytes(text: str) -> int:
    """A number of MiB, as bytes."""
    return positive(text) << 20


def check_output(path: Path, overwrite: bool, hint: str = "pass --overwrite to replace it") -> None:
    """Refuse a file that could not be written after the work is done.

    Raises:
        InputError: for a folder, a file that exists where `overwrite` is not given, a folder that is missing or
            read-only, or an impossible name.
    """
    try:
        exists = bool(os.lstat(path))
    except FileNotFoundError:
        exists = False
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="choose another path") from None
    if os.path.isdir(path):
        raise InputError(f"cannot write {path}: it is a folder", hint="give the name of a file")
    if exists and not overwrite:
        raise InputError(f"{path} exists", hint=hint)
    if not os.path.isdir(path.parent):
        raise InputError(f"cannot write {path}: its folder does not exist", hint=f"make {path.parent} first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: its folder is read-only", hint="choose another folder")


def require(extra: str, *modules: str) -> None:
    """Refuse to start without libraries that restoring does not need.

    Raises:
        InputError: naming those that are not installed.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed", hint=f'pip install "mrs-trt[{extra}]"')


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Of these options, the ones that were given."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def add_compiling(parser: argparse.ArgumentParser) -> None:
    """Where compiled networks may come from."""
    parser.add_argument(
        "--no-engine", action="store_true",
        help="compile from the plan's graph, which is checked, instead of loading its engine, which is native code: "
        "for plans from strangers",
    )  # fmt: skip
    parser.add_argument(
        "--no-cache", action="store_true",
        help="neither keep networks that are compiled for further sizes nor use those kept (docs/runtime.md)",
    )  # fmt: skip


def add_schedule(parser: argparse.ArgumentParser, default: str) -> None:
    """The options of a `Schedule`."""
    group = parser.add_argument_group("schedule", default)
    group.add_argument("--schedule", choices=("cosine", "linear", "constant"), help="shape of theta")
    group.add_argument("--max-sigma", type=float, metavar="S", help="stationary noise in 0..255 units")
    group.add_argument("--eps", type=float, metavar="E", help="what is left of the picture at the end")
    group.add_argument("--T", type=positive, metavar="T", help="forward steps the network was trained with")
    group.add_argument("--convention", choices=("mr-sampler", "ir-sde"), help="where the sum of theta starts")
    group.add_argument("--interpolation", choices=("published", "exact"), help="of the schedule between whole times")


def schedule_options(options: argparse.Namespace) -> dict[str, Any]:
    """The schedule's options that were given, as arguments of `Schedule`."""
    found = given(options, "schedule", "max_sigma", "eps", "T", "convention", "interpolation")
    if "schedule" in found:
        found["kind"] = found.pop("schedule")
    return found
