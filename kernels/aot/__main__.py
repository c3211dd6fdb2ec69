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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mrs.kernels.aot.report import Figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each GPU; returns 1 where a kernel spills, or reads or writes in another way than it should."""
    options = _parser().parse_args(arguments)
    refused = _refusal()
    if refused:
        return _stop(*refused)
    from mrs.kernels.aot import header, report
    from mrs.kernels.aot.binary import CAPABILITIES
    from mrs.kernels.aot.workers import measure_all

    known = {f"sm_{capability}": capability for capability in CAPABILITIES}
    for name in options.target or ():
        if name not in known:
            return _stop(f"target {name!r} is unknown", f"use one of {', '.join(known)}")
    names = _names(options.kernel)
    if not names:
        return _stop(f"no kernel has {options.kernel!r} in its name", "leave out --kernel to see all of them")
    every: list[Figures] = []
    faults: list[str] = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for target in options.target or known:
            figures = measure_all(pool, names, known[target])
            print(f"{target}\n\n{report.table(figures)}\n", flush=True)
            faults += [fault for each in figures for fault in each.faults()]
            every += figures
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    if options.write:
        try:
            print(f"wrote {len(every)} files and {header.write(every, options.write)}")
        except OSError as error:
            return _stop(f"cannot write {options.write}: {error.strerror}", "name another folder with --write")
    print(f"{len(every)} kernels compiled, {len(faults)} faults")
    return 1 if faults else 0


def _names(part: str) -> list[str]:
    from mrs.kernels.aot.cases import cases

    return [case.name for case in cases() if part in case.name]


def _refusal() -> tuple[str, str] | None:
    if find_spec("triton") is None:
        return "Triton is not installed", "pip install 'mrs-trt[gpu]' (Linux only)"
    if os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes"):
        return "TRITON_INTERPRET is set, and an interpreted kernel has no machine code", "unset it"
    return None


def _stop(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mrs.kernels.aot", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "--target", action="append", metavar="sm_XY", help="a GPU to compile for, may be repeated; default: all"
    )
    parser.add_argument("--kernel", default="", metavar="TEXT", help="only kernels with this in their name")
    parser.add_argument("--write", type=Path, metavar="DIR", help="also write the code and a C header there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="compile so many at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
