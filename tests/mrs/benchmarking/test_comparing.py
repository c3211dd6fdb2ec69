"""Runs of one plan compare as equal whatever the machine does meanwhile; a plan that became slower is found."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrs.benchmarking import comparing
from mrs.benchmarking.comparing import EQUAL, FASTER, SLOWER, UNCLEAR, change, check_comparable, compare
from mrs.benchmarking.results import Repeat, Results
from mrs.runtime.errors import InputError
from tests.mrs.benchmarking.test_results import some

PROCESSES, ROUNDS = 5, 12


def repeats(seed: int, factor: float = 1.0, drift: float = 0.1, noise: float = 0.01) -> tuple[Repeat, ...]:
    """A run: a machine as fast as it is in this run and in each process, a process as fast as its memory lies, rounds.

    Args:
        seed: of everything.
        factor: by which restores are slower.
        drift: of the machine between runs and processes, standard deviation of the logarithm.
        noise: of processes, which the yardstick knows nothing of, and of rounds.
    """
    random = np.random.default_rng(seed)
    run = random.normal(0, drift)
    made = []
    for _ in range(PROCESSES):
        machine = run + random.normal(0, drift)
        own = random.normal(0, noise)
        walk = np.cumsum(random.normal(0, noise, ROUNDS))

        def spent(ms: float, own: float = own, machine: float = machine, walk: Any = walk) -> tuple[float, ...]:
            return tuple(ms * np.exp(own + machine + walk + random.normal(0, noise, ROUNDS)))

        made.append(Repeat(restore_ms=spent(100 * factor), network_ms=spent(95), yardstick_ms=spent(20, 0.0)))
    return tuple(made)


def run(seed: int, **settings: float) -> Results:
    return dataclasses.replace(some(), repeats=repeats(seed, **settings))


def verdicts(pairs: int, factor: float, **settings: float) -> list[str]:
    return [
        compare(run(2 * seed, **settings), run(2 * seed + 1, factor=factor, **settings)).restore.verdict
        for seed in range(pairs)
    ]


def test_two_runs_of_one_plan_are_equal_though_the_machine_drifts() -> None:
    assert verdicts(200, 1.0).count(EQUAL) >= 195


@pytest.mark.parametrize(("factor", "verdict"), [(1.1, SLOWER), (1 / 1.1, FASTER)])
def test_a_change_by_a_tenth_is_found(factor: float, verdict: str) -> None:
    # Without drift: where the machine happens to be as much faster, no time says that the plan is slower.
    assert verdicts(200, factor, drift=0.0).count(verdict) >= 190


def test_what_is_too_noisy_is_not_called_equal_and_not_slower() -> None:
    found = verdicts(200, 1.0, noise=0.2)
    assert found.count(UNCLEAR) >= 180
    assert found.count(SLOWER) <= 10


def test_a_change_counts_where_times_and_yardstick_agree_and_by_more_than_is_relevant() -> None:
    old = [(0.0, 0.0), (0.001, 0.001), (-0.001, -0.001)]

    def of(plain: float, beside: float) -> str:
        return change(old, [(plain + each, beside + each) for each, _ in old]).verdict

    assert of(0.1, 0.1) == SLOWER
    assert of(-0.1, -0.1) == FASTER
    # The yardstick alone was faster, or the machine alone slower; or it is little, however sure.
    assert of(0.0, 0.1) == of(0.1, 0.0) == of(-0.1, 0.1) == of(0.04, 0.04) == EQUAL


def test_what_waiting_for_processors_explains_does_not_count() -> None:
    def waited(results: Results, share: float | None) -> Results:
        return dataclasses.replace(
            results, repeats=tuple(dataclasses.replace(each, waited=share) for each in results.repeats)
        )

    old, new = run(0, drift=0.0), run(1, drift=0.0, factor=1.2)
    assert compare(waited(old, None), waited(new, None)).notes == ()
    for before, now, verdict in ((0.3, 0.3, SLOWER), (0.0, 0.01, SLOWER), (0.0, 0.2, UNCLEAR), (0.2, 0.0, UNCLEAR)):
        found = compare(waited(old, before), waited(new, now))
        assert found.restore.verdict == verdict
        assert found.network is not None
        assert found.network.verdict == (EQUAL if verdict == SLOWER else UNCLEAR)
    assert found.notes == ("threads waited for processors that others had 20 % of the time before, 0 % now",)
    assert compare(waited(old, 1.0), waited(new, 1.0)).restore.verdict == SLOWER


def test_the_interval_is_welchs() -> None:
    # Two samples of which the interval is known (R: t.test(c(1, 2, 4), c(2, 3, 7, 8)), with 4.9 degrees, 4 of which
    # are taken).
    found = change([(0, 1), (0, 2), (0, 4)], [(0, 2), (0, 3), (0, 7), (0, 8)])
    error = math.sqrt((7 / 3) / 3 + (26 / 3) / 4)
    assert math.log(found.ratio) == pytest.approx(5 - 7 / 3)
    assert math.log(found.high / found.ratio) == pytest.approx(2.776 * error)
    assert found.high / found.ratio == pytest.approx(found.ratio / found.low)


@pytest.mark.parametrize(("freedom", "quantile"), [(0.5, 12.706), (4.99, 2.776), (15, 2.131), (30, 2.042), (1e6, 1.96)])
def test_quantiles_of_students_distribution(freedom: float, quantile: float) -> None:
    assert comparing._quantile(freedom) == pytest.approx(quantile, abs=1e-3)


def test_a_gpu_has_no_yardstick_and_a_tiled_picture_no_network() -> None:
    old, new = (
        dataclasses.replace(
            some(), repeats=tuple(Repeat(restore_ms=each.restore_ms) for each in repeats(seed, factor=by, drift=0.0))
        )
        for seed, by in ((0, 1.0), (1, 1.2))
    )
    found = compare(old, new)
    assert found.network is None
    assert found.restore.verdict == SLOWER
    assert found.restore.ratio == pytest.approx(found.restore.plain)


def test_what_else_differs_is_said_and_further_cases_are_told_without_a_verdict() -> None:
    old = run(0)
    larger = dataclasses.replace(old.cases[0], height=128, width=128, group=1, milliseconds=(10.0, 12.0, 11.0))
    old = dataclasses.replace(old, cases=(*old.cases, larger))
    changed = dataclasses.replace(larger, milliseconds=(22.0,))
    new = dataclasses.replace(
        old, cases=(old.cases[0], changed), versions={"mrs-trt": "1", "openvino": "2"},
        plan=dataclasses.replace(old.plan, evaluations=7),
    )  # fmt: skip
    found = compare(old, new)
    assert [(other.new.height, other.ratio) for other in found.others] == [(64, 1.0), (128, 2.0)]
    assert found.notes == (
        "evaluations: 5 before, 7 now", "mrs-trt: 0 before, 1 now", "openvino: none before, 2 now",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "change", "says"),
    [
        ("machine", {"processor": "another"}, "another processor: a processor, here another"),
        ("machine", {"gpu": "H200"}, "another GPU: none, here H200"),
        ("machine", {"threads": 4}, "another number of threads: 2, here 4"),
        ("plan", {"height": 65}, "another size: 64x96, here 65x96"),
        ("plan", {"batch": 2}, "another batch: 1, here 2"),
    ],
)
def test_other_machines_and_sizes_are_refused_by_name(where: str, change: dict[str, Any], says: str) -> None:
    old = run(0)
    now = {"machine": old.machine, "plan": old.plan}
    now[where] = dataclasses.replace(now[where], **change)
    with pytest.raises(InputError, match=f"old.json is of {says}"):
        check_comparable(old, **now, path=Path("old.json"))
    check_comparable(old, old.machine, dataclasses.replace(old.plan, sha256="1", solver="sde"), Path("old.json"))


@pytest.mark.parametrize(("before", "now", "whose"), [(2, 5, "old.json has 2"), (5, 2, "this run has 2")])
def test_too_few_processes_are_refused(before: int, now: int, whose: str) -> None:
    old = dataclasses.replace(some(), repeats=repeats(0)[:before])
    with pytest.raises(InputError, match=whose):
        comparing.check_processes(old, now, Path("old.json"))
