"""`mrs-trt report`: a page of what `mrs-trt bench --json` measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from mrs.commands import arguments
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError

DESCRIPTION = """\
Make one HTML file of results: a summary in words, plots, tables, pictures. It
loads nothing and needs no network (docs/benchmarks.md)."""
EPILOG = """\
examples:
  mrs-trt bench rain.mrsplan --json rain.json
  mrs-trt report rain.json -o report.html
  mrs-trt report here.json there.json -o report.html      side by side"""
# More would be no page that anybody reads.
MOST_FILES = 26


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "report", help="make a page of what bench measured", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="made by `mrs-trt bench --json`")
    arguments.add_output(parser, "PAGE", "the page to write, such as report.html")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read everything, then write the page, and print where it is."""
    arguments.require("report", "msgspec", "jinja2")
    from mrs.benchmarking.results import read
    from mrs.reporting.page import render
    from mrs.runtime.system.atomic import replacing

    if len(options.results) > MOST_FILES:
        raise InputError(
            f"{len(options.results)} files of results are too many for one page", hint=f"give at most {MOST_FILES}"
        )
    arguments.check_output(options.output, options.overwrite)
    page = render([read(path) for path in options.results])
    with replacing(options.output, overwrite=options.overwrite) as file:
        file.write(page)
    emit(f"wrote {options.output}, {len(page) / 1e6:.1f} MB")
    return 0
