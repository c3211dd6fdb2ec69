"""A folder of pictures, one at a time against several in flight: `python -m benchmarks.folder FOLDER`.

Both read, restore, encode and write every picture of the folder, interleaved, with plans and engines that are warm. One
at a time is `mrs-trt restore` for each picture in turn with all threads; several in flight is `mrs-trt restore FOLDER`
by default. Both must write the same bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import mrs
from benchmarks import rows
from mrs.commands import in_flight
from mrs.commands.restore import WORKERS
from mrs.numerics.solver import RECOMMENDED
from mrs.runtime import backends
from mrs.runtime.pictures.writing import Picture, find_pictures, read_picture, write_picture
from mrs.runtime.session import Restorer

PRECISIONS = ("bf16", "fp32")
Job = tuple[Path, Path]
Mode = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of pictures")
    parser.add_argument("--pictures", type=int, help="the first so many, default all")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="default each in turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", action="store_true", help="also reading and writing ahead alone, restores alone")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    jobs = find_pictures([options.folder]).pictures[: options.pictures]
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "rain.mrsplan"
        height, width = read_picture(jobs[0][0]).rgb.shape[:2]
        mrs.build("rain", plan, size=(height, width), backend="openvino", precision="fp32")
        here = backends.get("openvino").precisions()
        for precision in options.precision or [name for name in PRECISIONS if name in here]:
            measure(plan, precision, jobs, Path(folder), options.rounds, options.parts, options.rows)


def measure(
    plan: Path, precision: str, jobs: Sequence[Job], folder: Path, rounds: int, parts: bool, row_file: Path | None
) -> None:
    with ExitStack() as stack:
        alone = stack.enter_context(mrs.load(plan, precision=precision))
        beside = stack.enter_context(mrs.load(plan, precision=precision, workers=WORKERS))
        pictures = [read_picture(source) for source, _ in jobs]
        modes: dict[str, Mode] = {
            "one at a time": lambda: whole(alone, jobs, folder / "one", 1),
            "several in flight": lambda: whole(beside, jobs, folder / "several", WORKERS + 1),
        }
        if parts:
            modes |= {
                "one restore, several in flight": lambda: whole(alone, jobs, folder / "overlap", 2),
                "restores alone, one at a time": lambda: restores(alone, pictures, 1),
                "restores alone, side by side": lambda: restores(beside, pictures, WORKERS),
            }
        # Once, which warms everything up, and the gate.
        for mode in modes.values():
            mode()
        for name in ("several", "overlap")[: 1 + parts]:
            for source, relative in jobs:
                if (folder / name / relative).read_bytes() != (folder / "one" / relative).read_bytes():
                    sys.exit(f"{source} differs between one and {name}")
        seconds: dict[str, list[float]] = {name: [] for name in modes}
        others = []
        for turn in range(rounds):
            # Whatever comes later in a round has its turn earlier in the next.
            for name in list(modes)[:: -1 if turn % 2 else 1]:
                share, taken = timed(modes[name])
                seconds[name].append(taken)
                others.append(share)
    figures: dict[str, float] = {}
    for name, times in seconds.items():
        base = seconds["restores alone, one at a time" if name.startswith("restores") else "one at a time"]
        ratios = [first / second for first, second in zip(base, times, strict=True)]
        figures[f"{name}, s"] = statistics.median(times)
        if times is not base:
            figures[f"{name}, times faster"] = statistics.median(ratios)
            figures[f"{name}, least"], figures[f"{name}, most"] = min(ratios), max(ratios)
        print(
            f"{precision:<6}{name:<32}{statistics.median(times):7.2f} s ({min(times):.2f}-{max(times):.2f})"
            f"{statistics.median(ratios):7.2f} times faster ({min(ratios):.2f}-{max(ratios):.2f})"
        )
    figures["processors taken by others"] = statistics.median(others)
    print(f"{precision:<6}processors taken by others: {figures['processors taken by others']:.2f}")
    if row_file is not None:
        settings = {
            "pictures": len(jobs), "precision": precision, "evaluations": RECOMMENDED.steps, "rounds": rounds,
            "workers": WORKERS,
        }  # fmt: skip
        rows.append(row_file, f"folder of pictures, {precision}", settings, figures)


def whole(restorer: Restorer, jobs: Sequence[Job], folder: Path, several: int) -> None:
    """From files to files."""

    def work(job: Job, cancellation: object) -> None:
        source, relative = job
        picture = read_picture(source)
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(target, restorer.restore(picture.rgb), like=picture, overwrite=True)

    for _, error in in_flight.in_order(jobs, work, several, cost=lambda job: 0):
        if error is not None:
            raise error


def restores(restorer: Restorer, pictures: Sequence[Picture], several: int) -> None:
    """From arrays to arrays."""
    with ThreadPoolExecutor(several) as pool:
        for _ in pool.map(lambda picture: restorer.restore(picture.rgb), pictures):
            pass


def timed(mode: Mode) -> tuple[float, float]:
    """Processors that others took meanwhile (0 where the system does not tell), and seconds."""
    before = busy() - time.process_time()
    begin = time.perf_counter()
    mode()
    taken = time.perf_counter() - begin
    return (busy() - time.process_time() - before) / taken, taken


def busy() -> float:
    """Seconds of all processors that were not idle, since the start of the system."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except OSError:
        return time.process_time()
    idle, waiting = 3, 4
    return sum(int(field) for k, field in enumerate(fields) if k not in (idle, waiting)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
