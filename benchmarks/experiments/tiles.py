"""What tiles cost in quality: `python -m benchmarks.experiments.tiles FOLDER rain.mrsplan unet.mrsplan`.

Each plan restores degraded pictures whole and in tiles, with one seed. Of each tile and overlap: the distance to the
whole restore, and what it loses to the clean picture beside that, in dB, averaged over the pictures. Plans are of a
mean-reverting process; the answer stands in docs/networks.md.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path

import numpy as np

import mrs
from benchmarks import rows
from mrs import degradations
from mrs.runtime.pictures.writing import find_pictures, read_picture
from mrs.runtime.pictures_in import AnyArray
from mrs.runtime.psnr import psnr
from mrs.runtime.tiling import default_overlap

TILES, OVERLAPS = (128, 256, 512), (16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("plans", type=Path, nargs="+")
    parser.add_argument("--degradation", default="rain")
    parser.add_argument("--most", type=int, default=2, help="use only the first pictures, default 2")
    parser.add_argument("--side", type=int, default=768, help="longest side, cut from the middle; default 768")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    paths = [path for path, _ in find_pictures([options.folder]).pictures][: options.most]
    pictures = [middle(read_picture(path).rgb, options.side) for path in paths]
    for plan in options.plans:
        figures = measure(plan, pictures, options.degradation)
        if options.rows is not None:
            about = {"plan": plan.name, "pictures": len(pictures), "side": options.side}
            rows.append(options.rows, "tiles", about, figures)


def measure(path: Path, pictures: list[AnyArray], degradation: str) -> dict[str, float]:
    """Print a line for each tile and overlap."""
    figures: dict[str, float] = {}
    pairs = []
    for index, clean in enumerate(pictures):
        random = np.random.default_rng([0, index])
        floats = clean.astype(np.float32) / np.float32(255)
        pairs.append((floats, np.clip(degradations.get(degradation)(floats, random), 0, 1)))
    with mrs.load(path) as restorer:
        whole = [restorer.restore(degraded, tile=0) for _, degraded in pairs]
        before = float(np.mean([psnr(degraded, clean) for clean, degraded in pairs]))
        after = float(np.mean([psnr(result, clean) for (clean, _), result in zip(pairs, whole, strict=True)]))
        print(f"{path.name}: degraded {before:.2f} dB, restored whole {after:.2f} dB", flush=True)
        for tile, overlap in product(TILES, OVERLAPS):
            if overlap > tile // 2:
                continue
            made = [restorer.restore(degraded, tile=tile, overlap=overlap) for _, degraded in pairs]
            distance = float(np.mean([psnr(each, one) for each, one in zip(made, whole, strict=True)]))
            loss = after - float(np.mean([psnr(each, clean) for (clean, _), each in zip(pairs, made, strict=True)]))
            figures |= {f"{tile} {overlap} to whole db": distance, f"{tile} {overlap} loss db": loss}
            default = "  (default)" if overlap == default_overlap(tile) else ""
            print(
                f"  tile {tile} overlap {overlap}: {distance:.2f} dB to the whole, loses {loss:+.3f} dB{default}",
                flush=True,
            )
    return figures


def middle(picture: AnyArray, side: int) -> AnyArray:
    """The middle of a picture, no side of which is longer than that."""
    cut = tuple(slice(max(0, (size - side) // 2), max(0, (size - side) // 2) + side) for size in picture.shape[:2])
    return np.ascontiguousarray(picture[cut])


if __name__ == "__main__":
    sys.exit(main())
