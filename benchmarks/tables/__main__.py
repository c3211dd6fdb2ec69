"""Write the tables of README and docs anew from the rows; with `--check` only say which documents differ."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.tables import qualities, rivals, times
from benchmarks.tables.documents import DOCUMENTS, written

TABLES: Mapping[str, Callable[[], str]] = {
    "quality in short": qualities.short,
    "quality": qualities.whole,
    "noise scales": qualities.scales,
    "solvers by psnr": partial(qualities.solvers, "psnr_db", "PSNR, dB"),
    "solvers by ssim": partial(qualities.solvers, "ssim", "SSIM"),
    "solvers by distance": partial(qualities.solvers, "to_ode_100_db", "distance, dB"),
    "rivals in short": rivals.short,
    "rivals": rivals.against,
    "restores": times.restores,
    "processes": times.processes,
    "kernels": times.kernels,
    "folders": times.folders,
    "published networks": times.published_networks,
    "graph variants": times.graph_variants,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a document differs")
    options = parser.parse_args()
    differ = [path for path in DOCUMENTS if written(old := path.read_text(encoding="utf-8"), TABLES) != old]
    for path in differ:
        if not options.check:
            path.write_text(written(path.read_text(encoding="utf-8"), TABLES), encoding="utf-8")
        print(f"{path.name} {'differs from the rows' if options.check else 'written'}")
    return int(options.check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
