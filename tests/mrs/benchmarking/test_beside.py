"""Rivals are judged before they are timed, on what the plan's own network restores; those that fail are left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mrs
from mrs.benchmarking import beside as module
from mrs.benchmarking.beside import beside, shipped
from mrs.benchmarking.results import Parity
from mrs.benchmarking.rivals import Rival
from mrs.benchmarking.settings import Wanted
from mrs.benchmarking.works import Entrant
from mrs.runtime.errors import BackendError
from mrs.runtime.plan import read_plan

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (2, 12, 16)


def rival(name: str, **more: Any) -> Rival:
    return Rival(
        name=name, label=name, backend="none", precision="fp32", evaluations=2, setup_seconds=1.5, bar_db=30.0, **more
    )  # fmt: skip


@pytest.fixture
def entrants(plan: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What comes of rivals, and the notes."""

    def call(*given: Rival, plan: Path = plan) -> tuple[list[Entrant], list[str]]:
        notes: list[str] = []

        @contextmanager
        def opened(names: Sequence[str], *rest: Any, **more: Any) -> Iterator[list[Rival]]:
            yield list(given)

        monkeypatch.setattr(module, "rivals", opened)
        wanted = Wanted(against=("eager",))
        with (
            mrs.load(plan, threads=1) as restorer,
            beside(plan, restorer, SIZE, wanted, notes.append, lambda line: None) as found,
        ):
            return found, notes

    return call


def test_a_restore_is_judged_and_a_bare_loop_is_not(entrants: Any, plan: Path) -> None:
    with mrs.load(plan, threads=1) as restorer:
        ours = rival("ours", run=restorer.restore, rounds=2)
        wrong = rival("wrong", run=lambda pictures: 255 - pictures)
        evaluated: list[None] = []
        bare = rival("bare", evaluate=lambda: evaluated.append(None))
        (first, second, third), notes = entrants(ours, wrong, bare)
        assert notes == []
        assert [(each.case.by, each.case.work) for each in (first, second, third)] == [
            ("ours", "restore"), ("wrong", "restore"), ("bare", "network"),
        ]  # fmt: skip
        assert (first.rounds, second.rounds) == (2, None)
        assert first.case.parity.passes
        assert not second.case.parity.passes
        assert third.case.parity is None
        assert (first.case.batch, first.case.height, first.case.width, first.case.setup_seconds) == (*SIZE, 1.5)
        assert first.work().shape == (*SIZE, 3)
    # Once to warm up.
    third.work()
    assert len(evaluated) == 2


def test_another_solver_is_not_run_once_more_to_be_judged(entrants: Any) -> None:
    calls: list[None] = []
    own = Parity(psnr_db=None, reference="its own", bar_db=45.0, passes=True)
    (found,), notes = entrants(rival("published", run=lambda pictures: calls.append(None), own_parity=own))
    assert (found.case.parity, calls, notes) == (own, [], [])
    found.work()
    assert len(calls) == 1


def test_one_that_fails_is_left_out_by_name(entrants: Any) -> None:
    def fail() -> None:
        raise BackendError("the library is broken")

    found, notes = entrants(rival("broken", evaluate=fail), rival("sound", evaluate=lambda: None))
    assert [each.case.by for each in found] == ["sound"]
    assert notes == ["rival broken left out: the library is broken"]


def test_rivals_of_a_plan_that_enlarges_are_given_large_pictures(entrants: Any, plan: Path, tmp_path: Path) -> None:
    read = read_plan(plan)
    path = tmp_path / "enlarging.mrsplan"
    replace(read, manifest={**read.manifest, "upscale": 4}).save(path)
    shapes: list[tuple[int, ...]] = []
    entrants(rival("seen", run=lambda pictures: shapes.append(pictures.shape) or pictures), plan=path)
    assert shapes == [(*SIZE, 3)]


def test_shipped_weights_are_found_by_the_plans_word_and_nothing_else_is(plan: Path) -> None:
    read = read_plan(plan)
    for name, there in (
        ("rain.safetensors", True),
        ("nafnet_tiny.pth", False),
        ("../../pyproject.toml", False),
        ("", False),
    ):
        made = replace(read, manifest={**read.manifest, "checkpoint": {"name": name}})
        with mrs.Restorer(made, threads=1) as restorer:
            assert (shipped(restorer) is not None) == there
