"""`python -m mrs.kernels.aot`: compile every kernel for GPUs that are not here, and report on the machine code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mrs.kernels import terminal

if TYPE_CHECKING:
    from mrs.kernels.aot.report import Figures

# As a shell reports a program that SIGINT or SIGPIPE ended.
INTERRUPTED, BROKEN_PIPE = 130, 141


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments as all other errors."""

    def error(self, message: str) -> NoReturn:
        """Print an error and a hint; exit code 2."""
        self.exit(_stop(message, f"{self.prog} --help"))

    def _print_message(self, message: str, file: object = None) -> None:
        # Of argparse: --help. It would pass over a stream that is closed.
        terminal.emit(message.removesuffix("\n"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each GPU.

    Returns:
        0; 1 where a kernel spills, or reads or writes in another way than it should, or the table cannot be written;
        2 for a wrong input.
    """
    terminal.prepare()
    try:
        return _run(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        terminal.note("interrupted")
        return INTERRUPTED
    except terminal.OutputError as error:
        # After `head` has read enough, nobody is left to tell.
        if error.unread:
            return BROKEN_PIPE
        _stop(f"cannot write the output: {error}", "check where standard output leads")
        return 1
    finally:
        terminal.finish()


def _run(options: argparse.Namespace) -> int:
    if find_spec("triton") is None:
        return _stop("Triton is not installed", "pip install 'mrs-trt[gpu]' (Linux only)")
    import triton

    if triton.knobs.runtime.interpret:
        return _stop("TRITON_INTERPRET is set, and an interpreted kernel has no machine code", "unset it")
    from mrs.kernels.aot import header, report
    from mrs.kernels.aot.binary import CAPABILITIES
    from mrs.kernels.aot.cases import cases
    from mrs.kernels.aot.workers import measure_all

    known = {f"sm_{capability}": capability for capability in CAPABILITIES}
    targets = list(dict.fromkeys(options.target or known))
    for target in targets:
        if target not in known:
            return _stop(f"target {target!r} is unknown", f"use one of {', '.join(known)}")
    names = [case.name for case in cases() if case.wide or not options.wide]
    for part in options.kernel or ():
        if not any(part in name for name in names):
            return _stop(f"no kernel has {part!r} in its name", "leave out --kernel to see all of them")
    if options.kernel:
        names = [name for name in names if any(part in name for part in options.kernel)]
    # Compiling takes minutes; what cannot be written is said before.
    refused = _refused(options.write) if options.write else None
    if refused:
        return _cannot_write(options.write, refused)
    every: list[Figures] = []
    if options.jobs > 1:
        # Where processes compile side by side, the compiler's own threads only wait for each other.
        os.environ.setdefault("MLIR_DISABLE_MULTITHREADING", "1")
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for target in targets:
            figures = measure_all(pool, names, known[target])
            terminal.emit(f"{target}\n\n{report.table(figures)}\n")
            every += figures
    if len(targets) > 1:
        terminal.emit(f"all\n\n{report.summary(every)}\n")
    faults = [fault for figures in every for fault in figures.faults()]
    for fault in faults:
        terminal.note(f"fault: {fault}")
    if options.write:
        try:
            written = header.write(every, options.write)
        except OSError as error:
            return _cannot_write(options.write, error.strerror)
        terminal.emit(f"wrote {len(every)} files and {written}")
    terminal.emit(f"{len(every)} kernels compiled, {len(faults)} faults")
    return 1 if faults else 0


def _refused(folder: Path) -> str | None:
    """Why nothing can be written to a folder, which is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror
    return None if os.access(folder, os.W_OK) else "it is read-only"


def _cannot_write(folder: Path, reason: str | None) -> int:
    return _stop(f"cannot write {folder}: {reason}", "name another folder with --write")


def _stop(message: str, hint: str) -> int:
    for line in (f"error: {message}", f"hint: {hint}"):
        terminal.note(line)
    return 2


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _parser() -> Parser:
    parser = Parser(prog="python -m mrs.kernels.aot", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "--target", action="append", metavar="sm_XY", help="a GPU to compile for, may be repeated; default: all"
    )
    parser.add_argument(
        "--kernel", action="append", metavar="TEXT", help="only kernels with this in their name, may be repeated"
    )
    parser.add_argument("--wide", action="store_true", help="only kernels with nothing but accesses of 16 bytes")
    parser.add_argument("--write", type=Path, metavar="DIR", help="also write the code and a C header there")
    parser.add_argument("--jobs", type=_count, default=os.cpu_count(), metavar="N", help="compile so many at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
