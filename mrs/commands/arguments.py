"""Types of arguments that several commands share."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

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


def megabytes(text: str) -> int:
    """A number of MiB, as bytes."""
    return positive(text) << 20


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Of these options, the ones that were given."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def add_schedule(parser: argparse.ArgumentParser, default: str) -> None:
    """The options of a `Schedule`."""
    group = parser.add_argument_group("schedule", default)
    group.add_argument("--schedule", choices=("cosine", "linear", "constant"), help="shape of theta")
    group.add_argument("--max-sigma", type=float, metavar="S", help="stationary noise in 0..255 units")
    group.add_argument("--eps", type=float, metavar="E", help="what is left of the picture at the end")
    group.add_argument("--T", type=positive, metavar="T", help="forward steps the network was trained with")
    group.add_argument("--convention", choices=("mr-sampler", "ir-sde"), help="where the sum of theta starts")


def schedule_options(options: argparse.Namespace) -> dict[str, Any]:
    """The schedule's options that were given, as arguments of `Schedule`."""
    found = given(options, "schedule", "max_sigma", "eps", "T", "convention")
    if "schedule" in found:
        found["kind"] = found.pop("schedule")
    return found
