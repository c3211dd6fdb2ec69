"""What several commands share of their arguments: types, checks, options."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mrs.runtime.errors import InputError
from mrs.runtime.system import machine
from mrs.runtime.system.inputs import check_not_read

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

    SubParsers = _SubParsersAction[ArgumentParser]


def size(text: str) -> tuple[int, int]:
    """`HxW`, such as 256x384, as (height, width)."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None and re.fullmatch(r"\d{1,100}x\d{1,100}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is too large: sides are at most 99999 pixels")
    if match is None or min(int(match[1]), int(match[2])) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH in pixels, such as 256x384")
    return int(match[1]), int(match[2])


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Several of `size` with commas between them."""
    return tuple(size(part) for part in text.split(","))


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1, 10**9 - 1, "a whole number of at least 1")


def pixels(text: str) -> int:
    """A number of pixels."""
    return _whole(text, 1, 10**15 - 1, "a number of pixels")


def natural(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0, 10**9 - 1, "a whole number of at least 0")


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, such as 1,1,1,4."""
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,1,1,4")
    return tuple(int(part) for part in text.split(","))


def lenses(text: str) -> tuple[float, float, float]:
    """Three numbers with commas between them, such as -18,160,32."""
    if not re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?(,-?\d{1,6}(\.\d{1,6})?){2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not SOURCE,WANTED,DISPARITY, such as -18,160,32")
    source, wanted, disparity = map(float, text.split(","))
    return source, wanted, disparity


def seed(text: str) -> int:
    """0 to 2^32 - 1."""
    return _whole(text, 0, 2**32 - 1, f"a whole number from 0 to {2**32 - 1}")


def threads(text: str) -> int:
    """A number of threads. More than there are processors would only wait for each other."""
    return min(positive(text), machine.threads())


THREADS: dict[str, Any] = {"type": threads, "metavar": "N", "help": "at most, default all processors"}


def megabytes(text: str) -> int:
    """A number of MiB, as bytes."""
    return positive(text) << 20


def _whole(text: str, least: int, most: int, what: str) -> int:
    # Python refuses to read numbers of thousands of digits.
    if not re.fullmatch(rf"\d{{1,{len(str(most))}}}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return int(text)


def check_output(
    path: Path, overwrite: bool, hint: str = "pass --overwrite to replace it", *, inputs: Sequence[object] = ()
) -> None:
    """Refuse a file that could not be written after the work is done, or that the work needs.

    Args:
        path: of the file.
        overwrite: whether it may be replaced.
        hint: for a file that exists and may not be.
        inputs: what is read, as of `check_not_read`.

    Raises:
        InputError: for a folder, a pipe or a device, one of the inputs, a file that exists where `overwrite` is not
            given, a folder that is missing or read-only, or an impossible name.
    """
    try:
        exists = bool(os.lstat(path))
    except FileNotFoundError:
        exists = False
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="choose another path") from None
    if os.path.isdir(path):
        raise InputError(f"cannot write {path}: it is a folder", hint="give the name of a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"cannot write {path}: it is not a regular file", hint="give the name of a file")
    check_not_read(path, *inputs)
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


class Elsewhere(argparse.Action):
    """An option that the command does not have, whose user is told what to do instead; it is not in the help."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, refusal: Callable[[str, str | None], InputError]
    ) -> None:
        """
        Args:
            option_strings, dest: as of every action.
            refusal: the error, from the flag and its value, of which there may be none.
        """
        super().__init__(option_strings, dest, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self.refusal = refusal

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> NoReturn:
        """Refuse, whatever else is given."""
        raise self.refusal(self.option_strings[0], None if values is None else str(values))


def add_plan(parser: argparse.ArgumentParser) -> None:
    """A plan to read."""
    parser.add_argument("plan", type=Path, metavar="PLAN", help="made by `mrs-trt build`")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """A checkpoint to read."""
    parser.add_argument(
        "checkpoint",
        metavar="CKPT",
        help=".pth or .safetensors of a network (docs/networks.md), or `rain` for shipped weights",
    )


def add_plan_or_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Either of the two."""
    parser.add_argument(
        "plan_or_checkpoint", metavar="PLAN_OR_CKPT", help="a plan, a checkpoint, or `rain` for shipped weights"
    )


def add_output(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """A file to write."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=what)
    parser.add_argument("--overwrite", action="store_true", help=f"replace {metavar} where it exists")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """How many threads to use."""
    parser.add_argument("--threads", **THREADS)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """For what `terminal.progress` takes."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def add_running(parser: argparse.ArgumentParser) -> None:
    """How a plan is run, and where compiled networks may come from."""
    parser.add_argument("--backend", metavar="NAME", help="run on this backend instead of the plan's")
    parser.add_argument("--precision", metavar="P", help="fp32, bf16 or fp16 instead of the plan's")
    parser.add_argument("--no-graphs", action="store_true", help="on a GPU: launch by launch, without a CUDA graph")
    parser.add_argument(
        "--no-engine", action="store_true",
        help="compile from the plan's graph, which is checked, instead of loading its engine, which is native code: "
        "for plans from strangers",
    )  # fmt: skip
    parser.add_argument(
        "--no-cache", action="store_true",
        help="neither keep networks that are compiled for further sizes nor use those kept (docs/runtime.md)",
    )  # fmt: skip
    add_threads(parser)


def add_process(parser: argparse.ArgumentParser, default: str) -> None:
    """What a checkpoint was trained for, where it does not say so or says wrong."""
    parser.add_argument("--network-output", metavar="Q", help="what the network predicts: noise, data, velocity")
    parser.add_argument(
        "--override-checkpoint", action="store_true",
        help="let --network-output and the schedule's options contradict what the checkpoint says of its training",
    )  # fmt: skip
    add_schedule(parser, default)


def add_network(parser: argparse.ArgumentParser) -> None:
    """What is to be said of a published checkpoint, which does not say it itself."""
    group = parser.add_argument_group("published checkpoints", "docs/networks.md")
    group.add_argument("--preset", metavar="NAME", help="published setting, such as irsde-derain: see mrs-trt presets")
    group.add_argument("--encoder", type=Path, metavar="FILE", help="DA-CLIP's image encoder, for its networks")
    group.add_argument(
        "--encoder-heads", type=positive, metavar="N", help="heads of its attention, default its width by 64"
    )
    group.add_argument(
        "--autoencoder", type=Path, metavar="FILE", help="Refusion's UNet for latents, for its networks for latents"
    )
    group.add_argument(
        "--lens", dest="lenses", type=lenses, metavar="S,W,D",
        help="for the network for lenses: source and wanted lens, as ten times the f-number, negative for Canon's, and "
        "disparity, such as --lens=-18,160,32",
    )  # fmt: skip
    group.add_argument("--noise-sigma", type=float, metavar="S", help="of noisy pictures, in 0..255 units, such as 25")
    group.add_argument(
        "--upscale", type=positive, metavar="N",
        help="enlarge pictures so many times before they are restored, for super-resolution; --size and tiles are "
        "those of the large picture",
    )  # fmt: skip
    group.add_argument("--architecture", metavar="NAME", help="of the network, where weights of several look alike")


NETWORK = (
    "preset", "encoder", "encoder_heads", "autoencoder", "lenses", "noise_sigma", "upscale", "architecture",
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
