"""The command line: arguments in, one line per error out. What each command does is in `mrs.commands`."""

from __future__ import annotations

import sys

# As a shell reports a program that SIGINT or SIGPIPE ended.
INTERRUPTED, BROKEN_PIPE = 130, 141

try:
    import argparse
    import errno
    import logging
    import warnings
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from mrs._version import __version__
    from mrs.commands import (
        bench,
        build,
        degrade,
        deploy,
        doctor,
        export,
        inspect,
        presets,
        report,
        restore,
        train,
        tune,
    )
    from mrs.commands.terminal import print_error
    from mrs.kernels import terminal
    from mrs.kernels.terminal import OutputError
    from mrs.runtime.errors import InputError, MrsError
except KeyboardInterrupt:
    # Whoever changes his mind at once is told the same as later, by what is there: `guarded` is not yet.
    if sys.stderr is not None:
        sys.stderr.write("interrupted\n")
    sys.exit(INTERRUPTED)

COMMANDS = (build, export, deploy, restore, bench, report, inspect, presets, tune, doctor, train, degrade)
# What the system refuses is no bug of ours, wherever it happens: full disks, permissions, impossible names.
REFUSALS = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EIO", "ELOOP", "ENAMETOOLONG", "ENOSPC", "EPERM", "EROFS")
    if hasattr(errno, name)
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 where some pictures failed or the output cannot be written, 2 for a
    wrong input, 3 where `bench --compare` finds a plan slower, 130 after Ctrl-C, 141 where the reader of the output
    went away.

    Raises:
        SystemExit: with code 0 after --help and --version, 2 for arguments that are not understood.
    """

    def run() -> int:
        options = parser().parse_args(arguments)
        return int(options.run(options))

    return guarded(run)


def guarded(run: Callable[[], int]) -> int:
    """Call `run` for its exit code. What a user can act on becomes one line on stderr; a bug stays a traceback."""
    try:
        terminal.prepare()
        _tell_notes()
        return run()
    except MrsError as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        terminal.note("interrupted")
        return INTERRUPTED
    except OutputError as error:
        # After `head` has read enough, nobody is left to tell.
        if error.unread:
            return BROKEN_PIPE
        print_error(InputError(f"cannot write the output: {error}", hint="check where standard output leads"))
        return 1
    except MemoryError:
        print_error(InputError("there is not enough memory", hint="give smaller pictures, sizes or batches"))
        return 2
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        what = "the system refuses" if error.filename is None else f"cannot use {error.filename}"
        print_error(InputError(f"{what}: {error.strerror}", hint="check names, permissions and free space"))
        return 2
    finally:
        terminal.finish()


def _tell_notes() -> None:
    """What the runtime logs goes to stderr."""
    handler = _Notes()
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # Pillow warns of what is odd in a picture's metadata; what is wrong with a picture is told in our own line.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


class _Notes(logging.Handler):
    """What the runtime has to say, as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            terminal.note(self.format(record))
        except Exception:  # noqa: BLE001 (a message that does not fit its arguments, as every handler treats it)
            self.handleError(record)


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, as all other errors; its sub-parsers do so too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation in somebody's script would break when a new option begins alike.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        print_error(InputError(message, hint=f"{self.prog} --help"))
        sys.exit(2)

    def _print_message(self, message: str, file: object = None) -> None:
        # Of argparse: --help and --version. It would pass over a stream that is closed.
        terminal.emit(message.removesuffix("\n"))


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


if __name__ == "__main__":
    sys.exit(main())
