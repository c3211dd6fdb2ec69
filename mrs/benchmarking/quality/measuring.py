"""Quality of a plan, of other solvers on its network, and of the pictures as they were given."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mrs.benchmarking.quality import lpips, showing
from mrs.benchmarking.quality.intervals import FEWEST, interval
from mrs.benchmarking.quality.metrics import fidelity
from mrs.benchmarking.quality.perceptual import Score, perceptual
from mrs.benchmarking.quality.samples import U8, Sample, Samples
from mrs.benchmarking.quality.showing import Shown
from mrs.benchmarking.quality.solvers import others
from mrs.benchmarking.quality.states import states
from mrs.benchmarking.quality.wanted import Wanted
from mrs.benchmarking.results import OURS, Picture, Quality
from mrs.numerics.solver import Solver
from mrs.runtime.enlarging import enlarged_levels
from mrs.runtime.errors import InputError
from mrs.runtime.measure import Spread, interleaved
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer

DEGRADED, OTHER = "degraded", "solver"
# Pictures and states to be looked at.
SHOWN, STATES = 3, 6
# Of each solver, timed for speed against quality.
ROUNDS = 3


@dataclass(frozen=True)
class QualityFound:
    """What was measured.

    Attributes:
        quality: of the plan ("ours"), of the pictures as given ("degraded"), and of each other solver ("solver").
        pictures: of the first few: degraded, restored, clean; of the first one the states too.
        data: on what, in words.
        notes: what a reader must know: what was left out and why.
    """

    quality: tuple[Quality, ...]
    pictures: tuple[Picture, ...]
    data: str
    notes: tuple[str, ...]


@dataclass
class _Values:
    """Of one solver: metrics of each picture, and of each noise the mean over pictures."""

    pictures: list[dict[str, float]] = field(default_factory=list)
    noises: list[list[dict[str, float]]] = field(default_factory=list)

    def add(self, by_noise: Sequence[dict[str, float]]) -> None:
        self.noises.append(list(by_noise))
        self.pictures.append(_mean(by_noise))

    @property
    def metrics(self) -> dict[str, tuple[float, ...]]:
        return {name: tuple(each[name] for each in self.pictures) for name in self.pictures[0]}

    @property
    def between(self) -> dict[str, float]:
        by_noise = [_mean(column) for column in zip(*self.noises, strict=True)]
        if len(by_noise) < 2:
            return {}
        return {name: statistics.stdev(each[name] for each in by_noise) for name in by_noise[0]}


def measure(
    restorer: Restorer,
    wanted: Wanted,
    make: Callable[[Plan], Restorer],
    *,
    milliseconds: float | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> QualityFound:
    """Restore pictures whose clean ones are known, and compare.

    Args:
        restorer: the plan's.
        wanted: on what, and how.
        make: loads the plan's network with another solver, as the plan itself was loaded.
        milliseconds: median of the plan's own restore at its size; where other solvers are asked for and this is not
            given, it is measured as theirs are.
        report: takes lines of progress.

    Raises:
        InputError: for wrong folders, pictures, solvers or weights, before anything is restored where that can be
            known.
        BackendError: where an engine fails.
    """
    plan = restorer.plan
    samples, solvers = Samples(wanted, plan), others(plan, wanted.solvers)
    scores, notes = _scores(wanted)
    given, ours, shown, first = _Values(), _Values(), list[Shown](), None
    for index, sample, restored in _restored(restorer, samples, wanted.seeds, "", report):
        seen = sample.degraded if samples.factor == 1 else enlarged_levels(sample.degraded, samples.factor)
        given.add([_scored(scores, seen, sample, samples.border)])
        ours.add([_scored(scores, each, sample, samples.border) for each in restored])
        first = first or sample
        if index < SHOWN:
            shown += _shown(sample, seen, restored[0])
    timed = milliseconds if milliseconds is not None or not solvers else _milliseconds(restorer)
    found = [
        _quality(OURS, "this plan", _name(plan), len(plan.table.rows), ours, timed),
        _quality(DEGRADED, "as given", "", 0, given, None),
    ]
    for other in solvers:
        values = _Values()
        with make(other.plan) as one:
            for _, sample, restored in _restored(one, samples, wanted.seeds, f"{other.label}: ", report):
                values.add([_scored(scores, each, sample, samples.border) for each in restored])
            taken = _milliseconds(one)
        found.append(_quality(OTHER, other.label, other.label, other.solver.steps, values, taken))
    assert first is not None
    strip = _states(restorer, first, samples.factor)
    if isinstance(strip, str):
        notes.append(strip)
    else:
        shown += strip
    if solvers:
        notes.append(
            f"solvers were timed one after the other, {ROUNDS} restores of each at the plan's size: compare large "
            "differences only"
        )
    if len(samples) < FEWEST:
        notes.append(f"fewer than {FEWEST} pictures say nothing of others: there are no intervals")
    quality = tuple(_against(each, found[0]) for each in found)
    return QualityFound(quality, showing.files(shown), samples.said, tuple(notes))


def _scores(wanted: Wanted) -> tuple[list[Score], list[str]]:
    """What measures, and what is to be said of what does not."""
    scores: list[Score] = [fidelity]
    notes = []
    found = perceptual()
    if isinstance(found, str):
        notes.append(found)
    else:
        scores.append(found)
    if wanted.lpips is not None:
        scores.append(lpips.read(wanted.lpips))
    return scores, notes


def _restored(
    restorer: Restorer, samples: Samples, seeds: int, what: str, report: Callable[[str], None]
) -> Iterator[tuple[int, Sample, list[U8]]]:
    """Each picture's number, and it restored with every noise."""
    for index, sample in enumerate(samples):
        report(f"quality: {what}{sample.name}, {index + 1} of {len(samples)}")
        yield index, sample, [restorer.restore(sample.degraded, seed) for seed in range(seeds)]


def _name(plan: Plan) -> str:
    """Of its solver; plans of other programs need not say it."""
    try:
        return Solver(**plan.manifest["solver"]).name
    except (KeyError, TypeError, InputError):
        return ""


def _scored(scores: Sequence[Score], picture: U8, sample: Sample, border: int) -> dict[str, float]:
    rows, columns = (slice(border, side - border) for side in sample.clean.shape[:2])
    one, clean = (np.ascontiguousarray(each[rows, columns]) for each in (picture, sample.clean))
    return {name: value for score in scores for name, value in score(one, clean).items()}


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(values[name] for values in each) for name in each[0]}


def _quality(
    by: str, label: str, solver: str, evaluations: int, values: _Values, milliseconds: float | None
) -> Quality:
    metrics = values.metrics
    intervals = {name: ends for name, each in metrics.items() if (ends := interval(each)) is not None}
    return Quality(
        by=by, label=label, solver=solver, evaluations=evaluations, metrics=metrics, milliseconds=milliseconds,
        intervals=intervals, seeds=len(values.noises[0]), between_seeds=values.between,
    )  # fmt: skip


def _against(quality: Quality, ours: Quality) -> Quality:
    """With the differences from ours; resampling them keeps pictures together, which differ more than solvers do."""
    if quality.by == OURS:
        return quality
    found = {}
    for name, values in quality.metrics.items():
        differences = [one - other for one, other in zip(values, ours.metrics[name], strict=True)]
        ends = interval(differences)
        if ends is not None:
            found[name] = (statistics.fmean(differences), *ends)
    return replace(quality, against_ours=found)


def _milliseconds(restorer: Restorer) -> float:
    """Median of a few restores at the plan's size."""
    size = restorer.plan.facts.picture_shape
    picture = np.random.default_rng(0).integers(0, 256, (*size, restorer.channels), np.uint8)
    out = np.empty_like(picture)
    with restorer.chain(size) as chain:
        chain.warm_up(False)
        samples = interleaved({"restore": lambda: chain.restore_into(picture, out, 0)}, least=ROUNDS)
    return Spread.of(samples["restore"]).median


def _shown(sample: Sample, seen: U8, restored: U8) -> list[Shown]:
    roles = (("degraded", seen), ("restored", restored), ("clean", sample.clean))
    return [Shown(sample.name, role, showing.middle(each, showing.MOST_SIDE)) for role, each in roles]


def _states(restorer: Restorer, sample: Sample, factor: int) -> list[Shown] | str:
    part = showing.middle(sample.degraded, showing.STATE_SIDE // factor)
    found = states(restorer.plan, part, 0, restorer.threads, STATES)
    if isinstance(found, str):
        return found
    return [Shown(sample.name, "state", state, step) for step, state in found]
