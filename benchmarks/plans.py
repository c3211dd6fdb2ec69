"""What `mrs-trt bench` says of Refusion's network and of the shipped one: `python -m benchmarks.plans`.

Builds both plans, measures each beside its rivals, and writes benchmarks/results/NAME.PROCESSOR.json, from which
`mrs-trt report` makes a page. Refusion's network has random weights; with `--size 256` it takes a quarter of an hour
more, nearly all of it the published sampler's hundred evaluations in torch; `--compile` has torch.compile beside them,
which compiles for minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import mrs
from benchmarks import rows
from benchmarks.networks import REFUSION, write_checkpoint
from mrs import cli
from mrs.building.source import WEIGHTS
from mrs.runtime.system import machine

NAMES = ("refusion", "shipped")
PICTURES = Path(mrs.__file__).parent / "building" / "pictures"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}, default all")
    parser.add_argument("--size", type=int, default=128, help="side of Refusion's pictures, default 128")
    parser.add_argument("--seconds", type=float, default=60.0, help="to measure each plan for, default 60")
    parser.add_argument("--compile", action="store_true", help="torch.compile beside Refusion's network too")
    parser.add_argument("--output", type=Path, default=rows.RESULTS, help="folder of the results")
    options = parser.parse_args()
    unknown = next((name for name in options.names if name not in NAMES), None)
    if unknown is not None:
        parser.error(f"{unknown!r} is none of {', '.join(NAMES)}")
    output = options.output.resolve()
    with TemporaryDirectory() as folder:
        # Commands are kept in the results: without a path of this machine.
        os.chdir(folder)
        for name in options.names:
            target = output / f"{name}.{processor()}.json"
            code = shipped(options.seconds, target) if name == "shipped" else refusion(options, target)
            if code:
                return code
    return 0


def refusion(options: argparse.Namespace, target: Path) -> int:
    """The published size of network, against every rival there is."""
    checkpoint = write_checkpoint(REFUSION, Path("refusion"))
    solver = mrs.Solver(method="ode", order=2, steps=10)
    # On the engine that has won on every processor so far, judged on one picture: with random weights three say no
    # more, and most of the build is their 100 steps in float32.
    Path("calibration").mkdir()
    shutil.copy(PICTURES / "coffee.png", "calibration")
    size = (options.size, options.size)
    mrs.build(checkpoint, "refusion.mrsplan", size=size, solver=solver, backend="openvino", calibration="calibration")
    against = f"eager,{'compile,' * options.compile}published,openvino"
    parts = ("--against", against, "--checkpoint", checkpoint.name, "--processes", "1")
    return _bench("refusion.mrsplan", options.seconds, target, *parts)


def shipped(seconds: float, target: Path) -> int:
    """The shipped network: sizes, batches, workers, and how good its pictures are."""
    mrs.build(WEIGHTS / "rain.safetensors", "rain.mrsplan")
    shutil.copytree(PICTURES, "pictures")
    parts = (
        "--against", "eager,openvino,onnxruntime", "--sizes", "128x128,512x512,1024x1024", "--batches", "2,4",
        "--workers", "1,2", "--data", "pictures", "--middle", "256",
        "--solvers", "posterior:3,10", "ode-2:3,5,10", "published-ode-2:10",
    )  # fmt: skip
    return _bench("rain.mrsplan", seconds, target, *parts)


def _bench(plan: str, seconds: float, target: Path, *options: str) -> int:
    return cli.main(["bench", plan, "--seconds", f"{seconds:g}", "--json", str(target), *options])


def processor() -> str:
    """This one, as a part of a file's name."""
    words = re.sub(r"\(R\)|\bProcessor\b", "", machine.processor()).lower()
    best = next((name for name in machine.instructions()[::-1]), "plain")
    return f"{'-'.join(re.findall(r'[a-z0-9]+', words))}-{best.replace('_', '-')}"


if __name__ == "__main__":
    sys.exit(main())
