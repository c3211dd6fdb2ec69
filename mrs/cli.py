"""The command line: arguments in, one line per error out. What each command does is in `mrs.commands`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from mrs._version import __version__
from mrs.commands import build, doctor, inspect, restore, train
from mrs.runtime.errors import MrsError

COMMANDS = (build, restore, inspect, doctor, train)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 where some pictures failed, 2 for a wrong input, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(format="note: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        return int(options.run(options))
    except MrsError as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, is gone: nobody is left to tell.
        sys.stderr.close()
        return 0


def print_error(error: MrsError, prefix: str = "error") -> None:
    """One line on stderr: what was wrong, and the hint."""
    message = " ".join(error.message.split())
    print(f"{prefix}: {message}" + (f"; hint: {error.hint}" if error.hint else ""), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mrs-trt",
        description="Restore degraded photographs with few-step mean-reverting diffusion.",
        epilog="`mrs-trt COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"mrs-trt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
