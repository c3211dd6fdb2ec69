"""What tiles cost in quality: `python -m benchmarks.experiments.tiles FOLDER rain.mrsplan unet.mrsplan`, and with
`--speed 1024 2048` what they cost or save in time.

Each plan restores degraded pictures whole and in tiles, with one seed. Of each tile and overlap: the distance to the
whole restore, and what it loses to the clean picture beside that, in dB: mean, least and most of the pictures. Plans
are of a mean-reverting process; the answers stand in docs/networks.md and docs/runtime.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

import mrs
from benchmarks import rows
from mrs import degradations
from mrs.runtime.measure import Spread, interleaved, ratios
from mrs.runtime.pace import default_overlap
from mrs.runtime.pictures.writing import find_pictures, read_picture
from mrs.runtime.pictures_in import AnyArray
from mrs.runtime.psnr import psnr
from mrs.runtime.session import Restorer
from mrs.runtime.tiling import tiles

TILES, OVERLAPS = (128, 256, 512), (16, 32, 64)
FASTEST = (256, 384, 512, 768)
Pairs = list[tuple[AnyArray, AnyArray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("plans", type=Path, nargs="+")
    parser.add_argument("--degradation", default="rain")
    parser.add_argument("--most", type=int, default=8, help="use only the first pictures, default 8")
    parser.add_argument("--side", type=int, default=768, help="longest side, cut from the middle; default 768")
    parser.add_argument("--tiles", type=int, nargs="+", help=f"sides of tiles, default {TILES}, for speed {FASTEST}")
    parser.add_argument("--speed", type=int, nargs="+", metavar="SIDE", help="time square pictures of these sides")
    parser.add_argument("--rounds", type=int, default=3, help="of times, default 3")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    paths = [path for path, _ in find_pictures([options.folder]).pictures][: options.most]
    pictures = [read_picture(path).rgb for path in paths]
    for plan in options.plans:
        with mrs.load(plan) as restorer:
            if options.speed:
                print(f"{plan.name} on {restorer.backend} {restorer.precision}, {restorer.threads} threads", flush=True)
                figures = {}
                for side in options.speed:
                    clean = mosaic(pictures, side)
                    figures |= speed(restorer, pair(clean, options.degradation, 0), options.tiles or FASTEST, options)
                about: dict[str, object] = {"plan": plan.name, "rounds": options.rounds}
            else:
                pairs = [pair(middle(each, options.side), options.degradation, k) for k, each in enumerate(pictures)]
                figures = quality(plan.name, restorer, pairs, options.tiles or TILES)
                about = {"plan": plan.name, "pictures": len(pictures), "side": options.side}
        if options.rows is not None:
            rows.append(options.rows, "speed of tiles" if options.speed else "tiles", about, figures)


def quality(name: str, restorer: Restorer, pairs: Pairs, sides: Sequence[int]) -> dict[str, float]:
    """Print a line for each tile and overlap."""
    figures: dict[str, float] = {}
    whole = [restorer.restore(degraded, tile=0) for _, degraded in pairs]
    before = np.mean([psnr(degraded, clean) for clean, degraded in pairs])
    after = np.array([psnr(result, clean) for (clean, _), result in zip(pairs, whole, strict=True)])
    print(f"{name}: {len(pairs)} pictures, degraded {before:.2f} dB, restored whole {after.mean():.2f} dB", flush=True)
    for tile, overlap in product(sides, OVERLAPS):
        if overlap > tile // 2:
            continue
        made = [restorer.restore(degraded, tile=tile, overlap=overlap) for _, degraded in pairs]
        distance = np.array([psnr(each, one) for each, one in zip(made, whole, strict=True)])
        loss = after - np.array([psnr(each, clean) for (clean, _), each in zip(pairs, made, strict=True)])
        for key, values in (("to whole db", distance), ("loss db", loss)):
            figures |= {f"{tile} {overlap} {key}": float(values.mean()), f"{tile} {overlap} {key} least": values.min()}
            figures[f"{tile} {overlap} {key} most"] = values.max()
        default = "  (default)" if overlap == default_overlap(tile) else ""
        print(
            f"  tile {tile} overlap {overlap}: {distance.mean():.1f} dB to the whole ({distance.min():.1f}-"
            f"{distance.max():.1f}), loses {loss.mean():+.3f} dB ({loss.min():+.3f} to {loss.max():+.3f}){default}",
            flush=True,
        )
    return figures


def speed(
    restorer: Restorer, given: tuple[AnyArray, AnyArray], sides: Sequence[int], options: argparse.Namespace
) -> dict[str, float]:
    """Print a line for a whole restore and for each tile: microseconds for a pixel of the result."""
    clean, degraded = given
    height, width = degraded.shape[:2]
    cuts = [0, *(side for side in sides if side < max(height, width))]
    works = {cut: partial(restorer.restore, degraded, tile=cut) for cut in cuts}
    # Once before, to compile and to be compared.
    made = {cut: work() for cut, work in works.items()}
    times = interleaved(works, least=options.rounds)
    figures: dict[str, float] = {}
    for cut in cuts:
        each, by = Spread.of(times[cut]), Spread.of(ratios(times[cut], times[0]))
        pixel = 1e3 * each.median / (height * width)
        figures |= {f"{height} {cut} us a pixel": pixel, f"{height} {cut} to whole": by.median}
        said = f"{height} whole" if not cut else f"{height} in tiles of {cut}"
        line = f"  {said:<22}{pixel:6.2f} us a pixel, {by.median:.2f} ({by.q1:.2f}-{by.q3:.2f}) of whole"
        if cut:
            work = sum((y.stop - y.start) * (x.stop - x.start) for y, x in tiles(height, width, cut,
                                                                                  default_overlap(cut)))  # fmt: skip
            loss = psnr(made[0], clean) - psnr(made[cut], clean)
            line += f", {work / (height * width):.2f} times the pixels, {psnr(made[cut], made[0]):.1f} dB to it, "
            line += f"loses {loss:+.3f} dB"
            figures |= {f"{height} {cut} to whole db": psnr(made[cut], made[0]), f"{height} {cut} loss db": loss}
        print(line, flush=True)
    return figures


def pair(clean: AnyArray, degradation: str, index: int) -> tuple[AnyArray, AnyArray]:
    """A clean picture as floats and the degraded one."""
    random = np.random.default_rng([0, index])
    floats = clean.astype(np.float32) / np.float32(255)
    return floats, np.clip(degradations.get(degradation)(floats, random), 0, 1)


def middle(picture: AnyArray, side: int) -> AnyArray:
    """The middle of a picture, no side of which is longer than that."""
    cut = tuple(slice(max(0, (size - side) // 2), max(0, (size - side) // 2) + side) for size in picture.shape[:2])
    return np.ascontiguousarray(picture[cut])


def mosaic(pictures: Sequence[AnyArray], side: int) -> AnyArray:
    """A square of that side, of the pictures side by side and below each other, again and again."""
    parts = [middle(picture, 512) for picture in pictures]
    parts = [part for part in parts if part.shape[:2] == (512, 512)]
    across = -(-side // 512)
    lines = [np.hstack([parts[(across * y + x) % len(parts)] for x in range(across)]) for y in range(across)]
    return np.ascontiguousarray(np.vstack(lines)[:side, :side])


if __name__ == "__main__":
    sys.exit(main())
