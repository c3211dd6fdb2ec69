"""What rows can still give at few evaluations: tools of other papers, each chosen on some pictures, measured on others.

    python -m benchmarks.experiments.few_evaluations BSDS500/val KODAK

Every tool yields tables; the one that is best on the first folder's crops is measured on the second's, as the mean
difference to plain posterior sampling without noise, picture by picture. docs/solvers.md has the figures.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs.benchmarking.quality.intervals import interval
from mrs.building.source import WEIGHTS, read_source
from mrs.kernels.table import Row, Table
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.system import machine
from mrs.tuning.judging import Judge
from mrs.tuning.pairs import read_pairs
from mrs.tuning.scoring import metric
from mrs.tuning.trial import Trial, of_network
from mrs.tuning.truth import tune_truth

F64 = NDArray[np.float64]
SHIFTS = (-6.0, -3.0, 3.0, 6.0)
SHARPENINGS = (0.96, 0.98, 1.02, 1.04)
COMPENSATIONS = (0.0, 0.5, 1.5)
FIELDS = 4
# Points of an integral over one step.
POINTS = 400
# Times at which the prediction's slope is measured.
SLOPES = 11


class Study:
    """One number of evaluations on two sets of pictures."""

    def __init__(self, chosen_on: Judge, measured_on: Judge, schedule: Schedule, output: str, steps: int) -> None:
        self.chosen_on, self.measured_on = chosen_on, measured_on
        self.schedule, self.output, self.steps = schedule, output, steps
        self.plain = self.table(Solver("posterior", 1, steps=steps, noise_scale=0.0, start_noise=0.0))
        self.base = measured_on.judged(self.plain)
        self.known: dict[Table, float] = {}

    def table(self, solver: Solver) -> Table:
        """A solver's rows for this network."""
        return tableau(self.schedule, solver, self.output)

    def score(self, table: Table) -> float:
        """Mean over the pictures to choose on."""
        if table not in self.known:
            self.known[table] = float(self.chosen_on.judged(table).mean())
        return self.known[table]

    def tell(self, name: str, tables: list[Table]) -> Table:
        """Print what the best of some tables gains over plain posterior sampling on either set; give it back."""
        best = max(tables, key=self.score)
        gains = (self.measured_on.judged(best) - self.base).tolist()
        low, high = interval(gains) or (0.0, 0.0)
        print(
            f"{self.steps} {name:<44} chosen on {self.score(best) - self.score(self.plain):+.3f}   unseen "
            f"{statistics.fmean(gains):+.3f} ({low:+.2f} to {high:+.2f})",
            flush=True,
        )
        return best

    def run(self) -> None:
        """All tools, one after the other."""
        print(f"{self.steps} plain: {self.score(self.plain):.3f} and {self.base.mean():.3f} dB", flush=True)
        for noise, start in ((1.0, 1.0), (0.5, 0.5), (0.0, 1.0), (0.0, 0.5)):
            solver = Solver("posterior", 1, steps=self.steps, noise_scale=noise, start_noise=start)
            self.tell(f"posterior, noise {noise:g}, start {start:g}", [self.table(solver)])
        self.tell("network's time apart: one shift of all", [shifted(self.plain, by, self.schedule) for by in SHIFTS])
        self.tell("sharpening of every prediction", [sharpened(self.plain, by, False) for by in SHARPENINGS])
        self.tell("sharpening of the last row", [sharpened(self.plain, by, True) for by in SHARPENINGS])
        second = self.table(Solver("dpm++", 2, steps=self.steps, last_step="full", start_noise=0.0))
        self.tell("dpm++-2 without noise", [second])
        self.tell("the same, dynamic compensation", [self.compensated(second)])
        self.tell("model statistics, first order", [self.with_statistics()])
        self.fields()

    def compensated(self, table: Table) -> Table:
        """DC-Solver's ratios (arXiv 2409.03755): of two predictions, the older is moved towards the newer one."""
        for index in range(1, len(table.rows)):
            row = table.rows[index]
            moved = [row._replace(b0=row.b0 + (1 - by) * row.b1, b1=by * row.b1) for by in COMPENSATIONS]
            tables = [replace(table, rows=(*table.rows[:index], one, *table.rows[index + 1 :])) for one in moved]
            table = max([table, *tables], key=self.score)
        return table

    def with_statistics(self) -> Table:
        """DPM-Solver-v3's idea (arXiv 2310.13268) with one number for each time: the part of the prediction that is
        linear in the state is measured and solved exactly, the rest held over the step.
        """
        times = np.linspace(self.schedule.T, 1.0, SLOPES)
        slopes = self._slopes(times)
        rows = []
        # The last step, to where there is no noise, is the prediction itself.
        for row, (u, t) in zip(self.plain.rows[:-1], pairwise(self.plain.times), strict=False):
            here = float(np.interp(-u, -times, slopes))
            factor, weight = _integrated(self.schedule, np.linspace(u, t, POINTS), -times, slopes)
            # Of the state: without what its linear part is counted twice by.
            ax = factor - weight * here
            rows.append(row._replace(ax=ax, am=1 - ax - weight, b0=weight))
        return replace(self.plain, rows=(*rows, self.plain.rows[-1]))

    def _slopes(self, times: F64) -> list[float]:
        """Of the prediction by the state, by least squares, around states without noise."""
        judge, random = self.chosen_on, np.random.default_rng(0)
        mu, _ = judge.trial.start(0.0)
        found = []
        for t in times:
            a, s = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
            x = (mu + np.float32(a) * (judge.clean - mu)).astype(np.float32)
            push = random.standard_normal(x.shape).astype(np.float32) * np.float32(0.1 * s)
            one, other = (judge.trial.predict(at, mu, float(t)) for at in (x, x + push))
            moved = push / a - np.float32(s / a) * (other - one)
            found.append(float(np.sum(moved * push) / np.sum(push * push)))
        print(f"{self.steps} slopes of the prediction by the state: {np.round(found, 3)}", flush=True)
        return found

    def fields(self) -> None:
        """Optimal boundary (of the start): the noise at the start that is best on the pictures to choose on."""
        table = self.table(Solver("posterior", 1, steps=self.steps, noise_scale=0.0, start_noise=0.5))
        scores = [self._with_field(self.chosen_on, table, seed).mean() for seed in range(FIELDS)]
        best = int(np.argmax(scores))
        gains = [self._with_field(self.measured_on, table, seed).mean() - self.base.mean() for seed in range(FIELDS)]
        print(
            f"{self.steps} start noise 0.5 of {FIELDS} fields, the same for all pictures: spread where chosen "
            f"{np.std(scores):.3f}, unseen {np.std(gains):.3f}; the best unseen {gains[best]:+.3f}, mean "
            f"{np.mean(gains):+.3f}",
            flush=True,
        )

    @staticmethod
    def _with_field(judge: Judge, table: Table, seed: int) -> F64:
        trial = judge.trial
        mu, _ = trial.start(0.0)
        field = np.random.default_rng([9, seed]).standard_normal(mu.shape[1:]).astype(np.float32)
        x = mu + np.float32(table.start) * field
        for row, t in zip(table.rows, table.times, strict=False):
            q = _prediction(row, x, mu, trial.predict(x, mu, t))
            x = np.float32(row.ax) * x + np.float32(row.am) * mu + np.float32(row.b0) * q
        return judge.scores(x)


def shifted(table: Table, by: float, schedule: Schedule) -> Table:
    """The network is told other times than the rows are of (arXiv 2305.15583)."""
    *inner, last = table.times
    return replace(table, times=(*(min(max(t + by, 1.0), float(schedule.T)) for t in inner), last))


def sharpened(table: Table, by: float, last: bool) -> Table:
    """Predictions further from, or nearer to, the degraded picture."""
    rows = [row if last and index < len(table.rows) - 1 else _sharper(row, by) for index, row in enumerate(table.rows)]
    return replace(table, rows=tuple(rows))


def _sharper(row: Row, by: float) -> Row:
    return row._replace(cx=by * row.cx, cm=by * row.cm + (1 - by), cf=by * row.cf)


def _prediction(
    row: Row, x: NDArray[np.float32], mu: NDArray[np.float32], f: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.float32(row.cx) * x + np.float32(row.cm) * mu + np.float32(row.cf) * f


def _integrated(schedule: Schedule, times: F64, known: F64, slopes: list[float]) -> tuple[float, float]:
    """The state's factor and the rest's weight over a step, where q0 - mu = slope y + rest.

    d(y / s) / dlam = (a / s) q, so that with w = y / s: dw / dlam = a slope w + (a / s) rest.

    Args:
        schedule: the process.
        times: falling, from the step's begin to its end.
        known: rising, less the times that slopes are known at.
        slopes: there.
    """
    a, s = schedule.alpha(times), schedule.sigma(times)
    lam, linear = np.log(a / s), a * np.interp(-times, known, slopes)
    grown = np.concatenate([[0.0], np.cumsum(np.diff(lam) * (linear[1:] + linear[:-1]) / 2)])
    # (a / s) dlam is d(a / s), which is summed exactly where the slope is 0.
    rest = np.exp(grown[-1] - grown)
    weight = float(np.sum(np.diff(a / s) * (rest[1:] + rest[:-1]) / 2))
    return float(s[-1] / s[0] * np.exp(grown[-1])), float(s[-1]) * weight


def _judges(folders: list[Path], sizes: list[tuple[int, int]]) -> Iterator[Judge]:
    source = read_source(WEIGHTS / "rain.safetensors")
    network = of_network(source.arch, source.network)
    for folder, (count, side) in zip(folders, sizes, strict=True):
        pairs = read_pairs(folder, None, side, count, network.multiple, "rain")
        yield Judge(Trial(network, pairs.degraded, "fp32", machine.threads(), 4), pairs.clean, metric("psnr"))


def main() -> None:
    """Print a line for each tool at 3 and at 5 evaluations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("chosen_on", type=Path, help="folder of clean pictures to choose on")
    parser.add_argument("measured_on", type=Path, help="folder of others to measure on")
    parser.add_argument("--crops", type=int, nargs=2, default=(16, 16), metavar="N", help="of each folder")
    parser.add_argument("--evaluations", type=int, nargs="+", default=(3, 5), metavar="N")
    parser.add_argument("--tune", type=float, metavar="S", help="seconds of a search for the truth too")
    options = parser.parse_args()
    source = read_source(WEIGHTS / "rain.safetensors")
    sizes = [(options.crops[0], 96), (options.crops[1], 128)]
    chosen_on, measured_on = _judges([options.chosen_on, options.measured_on], sizes)
    for steps in options.evaluations:
        study = Study(chosen_on, measured_on, source.schedule, source.output, steps)
        study.run()
        if options.tune:
            found = tune_truth(
                chosen_on, measured_on, source.schedule, steps, source.output, seconds=options.tune, report=print
            )
            study.tell("times and weights searched", [study.table(found.best.solver)])


if __name__ == "__main__":
    main()
