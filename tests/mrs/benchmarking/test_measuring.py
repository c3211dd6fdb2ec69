"""Restores are timed as they are called, and what cannot be restored or timed is refused or said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import mrs
from mrs.benchmarking import measuring
from mrs.benchmarking.measuring import throughputs, time_group
from mrs.benchmarking.results import Case
from mrs.benchmarking.settings import LEAST, Running, Wanted
from mrs.benchmarking.works import Entrant, check_size, evaluating, main_size, picture_of, restoring
from mrs.runtime.errors import InputError
from mrs.runtime.plan import read_plan

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def enlarging(plan: Path, tmp_path: Path) -> Path:
    """The plan as one that enlarges three times, which its own size is no multiple of."""
    read = read_plan(plan)
    path = tmp_path / "enlarging.mrsplan"
    dataclasses.replace(read, manifest={**read.manifest, "upscale": 3}).save(path)
    return path


def test_all_take_turns_and_the_plans_own_say_what_is_known(plan: Path) -> None:
    order: list[str] = []
    rival = Case(
        work="restore", by="eager", label="torch", backend="torch", precision="fp32", height=16, width=20, batch=2,
        evaluations=2, group=3, milliseconds=(),
    )  # fmt: skip
    with Running(threads=1).load(plan) as restorer:
        whole, bare, other = time_group(
            restorer, (2, 16, 20), 3, 0.0, [Entrant(rival, lambda: order.append("rival"))], 2.0
        )
    assert [(case.work, case.by) for case in (whole, bare, other)] == [
        ("restore", "ours"), ("network", "ours"), ("restore", "eager"),
    ]  # fmt: skip
    for case in (whole, bare, other):
        assert (case.height, case.width, case.batch, case.evaluations, case.group) == (16, 20, 2, 2, 3)
        assert len(case.milliseconds) == LEAST
    assert len(order) == LEAST
    assert min(whole.milliseconds) > 0
    assert whole.setup_seconds is not None
    assert whole.setup_seconds > 2.0
    # The build measured parity of the engine that is in use, and no speed is without it.
    assert whole.parity is not None
    assert whole.parity.passes
    assert whole.parity.bar_db <= 45
    assert bare.parity is None


def test_a_plan_that_enlarges_is_given_small_pictures(enlarging: Path) -> None:
    with mrs.load(enlarging, threads=1) as restorer:
        assert main_size(restorer, None, None) == (1, 30, 30)
        assert picture_of(restorer, (2, 12, 15)).shape == (2, 4, 5, 3)
        seen: list[tuple[object, ...]] = []
        real = restorer._dispatch._restore_array
        restorer._dispatch._restore_array = lambda image, out, request: (  # type: ignore[method-assign]
            seen.append((image.shape, out.shape)) or real(image, out, request)
        )
        whole, bare = time_group(restorer, (2, 12, 15), 0, 0.0)
        assert set(seen) == {((2, 4, 5, 3), (2, 12, 15, 3))}
        assert (whole.height, bare.width) == (12, 15)
        with pytest.raises(InputError, match="size 10x12 is no multiple of 3"):
            check_size(restorer, (1, 10, 12))


def test_a_picture_in_tiles_has_no_bare_network(plan: Path) -> None:
    with mrs.load(plan, threads=1, memory=200_000) as restorer:
        assert restorer.tile_of(64, 64) is not None
        assert restorer.tile_of(8, 8) is None
        assert evaluating(restorer, (1, 64, 64)) is None
        (whole,) = time_group(restorer, (1, 64, 64), 0, 0.0)
    assert whole.work == "restore"


def test_the_bare_network_is_evaluated_as_often_as_in_a_restore(plan: Path, monkeypatch) -> None:
    with mrs.load(plan, threads=1) as restorer:
        restoring(restorer, (1, 16, 16))()
        with restorer.chain((1, 16, 16)) as chain:
            network = chain.network
        steps: list[int] = []
        real = network.evaluate
        monkeypatch.setattr(network, "evaluate", lambda step: steps.append(step) or real(step), raising=False)
        bare = evaluating(restorer, (1, 16, 16))
        assert bare is not None
        bare()
    assert steps == [0, 1]


def test_what_does_not_fit_is_refused_before_it_is_made(plan: Path, monkeypatch) -> None:
    monkeypatch.setattr("mrs.runtime.system.machine.free_memory", lambda: 1 << 20)
    with mrs.load(plan, threads=1, memory=1 << 40) as restorer:
        check_size(restorer, (1, 32, 32))
        with pytest.raises(InputError, match="size 320x320 at batch 9 needs"):
            check_size(restorer, (9, 320, 320))


def test_each_number_of_workers_has_as_many_callers(plan: Path, monkeypatch) -> None:
    monkeypatch.setattr(measuring, "ROUND", 0.001)
    made: list[measuring.Crew] = []
    real = measuring.Crew.__init__

    def init(self: measuring.Crew, *arguments: object) -> None:
        real(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(measuring.Crew, "__init__", init)
    found = throughputs(plan, Running(threads=1), (2, 16, 16), (1, 3), 0.0)
    assert [(each.workers, each.batch, each.height, len(each.pictures_per_second)) for each in found] == [
        (1, 2, 16, LEAST), (3, 2, 16, LEAST),
    ]  # fmt: skip
    assert [crew.restorer.workers for crew in made] == [1, 3]
    assert [crew.pictures % (2 * crew.restorer.workers) for crew in made] == [0, 0]
    with pytest.raises(InputError, match="closed"):
        made[1].work()


def test_seconds_are_shared() -> None:
    wanted = Wanted(
        sizes=((8, 8),), batches=(2, 4), workers=(1,), processes=3, seconds=20, against=("eager",)
    )  # fmt: skip
    assert wanted.share == 2
    assert wanted.own_share == 6
