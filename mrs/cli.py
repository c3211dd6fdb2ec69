"""The command line: arguments in, one line per error out. What each command does is in `mrs.commands`."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from mrs._version import __version__
from mrs.commands import bench, build, doctor, inspect, restore, train, tune
from mrs.runtime.errors import InputError, MrsError

COMMANDS = (build, restore, bench, inspect, tune, doctor, train)
# What the system refuses is no bug of ours, wherever it happens: full disks, permissions, impossible names.
REFUSALS = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EIO", "ELOOP", "ENAMETOOLONG", "ENOSPC", "EPERM", "EROFS")
    if hasattr(errno, name)
)
# As a shell reports a program that SIGINT or SIGPIPE ended.
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 where some pictures failed, 2 for a wrong input, 130 after Ctrl-C.

    Raises:
        SystemExit: with code 0 after --help and --version, 2 for arguments that are not understood.
    """
    options = parser().parse_args(arguments)
    return guarded(lambda: int(options.run(options)))


def guarded(run: Callable[[], int]) -> int:
    """Call `run` for its exit code. What a user can act on becomes one line on stderr; a bug stays a traceback."""
    logging.basicConfig(format="note: %(message)s", level=logging.WARNING, stream=sys.stderr)
    # Pillow warns of what is odd in a picture's metadata; what is wrong with a picture is told in our own line.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    for stream in (sys.stdout, sys.stderr):
        # Names of files may hold bytes that are no text.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run()
        sys.stdout.flush()
    except MrsError as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output, such as `head`, is gone: nobody is left to tell.
        _discard_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        what = "cannot write the output" if error.filename is None else f"cannot use {error.filename}"
        print_error(InputError(f"{what}: {error.strerror}", hint="check names, permissions and free space"))
        _discard_output()
        return 2
    return code


def print_error(error: MrsError, prefix: str = "error") -> None:
    """One line on stderr: what was wrong, and the hint."""
    text = f"{prefix}: {error.message}" + (f"; hint: {error.hint}" if error.hint else "")
    # Names of files and texts of libraries may hold line breaks.
    print(" ".join(text.split()), file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, as all other errors; its sub-parsers do so too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation in somebody's script would break when a new option begins alike.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        print_error(InputError(message, hint=f"{self.prog} --help"))
        sys.exit(2)


def parser() -> Parser:
    """The parser of all commands."""
    made = Parser(
        prog="mrs-trt",
        description="Restore degraded photographs with few-step mean-reverting diffusion.",
        epilog="`mrs-trt COMMAND --help` explains a command.",
    )
    made.add_argument("--version", action="version", version=f"mrs-trt {__version__}")
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return made


def _discard_output() -> None:
    """Let what is still buffered go nowhere: Python would fail to write it once more at exit."""
    with suppress(OSError, ValueError):  # not a file, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
