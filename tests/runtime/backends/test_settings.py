"""Options of engines that are built ahead: their values, their text, their place in a plan."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mrs.runtime.backends.settings import CompileSettings, EngineOptions, parse_options, with_range
from mrs.runtime.errors import InputError

SIZES = ((1, 8, 8), (1, 16, 24), (1, 32, 32))


def test_defaults_leave_the_plan_alone() -> None:
    assert EngineOptions().to_dict() == {}
    assert EngineOptions.from_dict({}) == EngineOptions()


def test_what_a_plan_keeps_comes_back() -> None:
    options = EngineOptions(optimization_level=5, workspace_mib=64, hardware="ampere", size_range=SIZES)
    assert EngineOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_texts() -> None:
    texts = ["optimization-level=0", "workspace-mib=1024", "hardware=capability", "auxiliary-streams=7"]
    assert parse_options(texts) == EngineOptions(0, 1024, "capability", 7)
    assert parse_options([]) == EngineOptions()


@pytest.mark.parametrize(
    "text",
    [
        "", "level=3", "optimization-level", "optimization-level=", "optimization-level=-1", "optimization-level=6",
        "optimization-level=3.0", "workspace-mib=0", "workspace-mib=²", "auxiliary-streams=8", "hardware=",
        "hardware=Ampere", "size-range=1",
    ],
)  # fmt: skip
def test_texts_that_are_wrong(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_options([text])
    assert caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        None, [], "x", {"level": 3}, {"optimization_level": "3"}, {"optimization_level": True}, {"hardware": 1},
        {"size_range": 1}, {"size_range": [[1, 8, 8], [1, 16, 24]]}, {"size_range": [[1, 8], [1, 8], [1, 8]]},
        {"size_range": [[1, 8, 8.0]] * 3}, {"size_range": [[0, 8, 8]] * 3},
    ],
    ids=repr,
)  # fmt: skip
def test_values_that_no_plan_holds(values: Any) -> None:
    with pytest.raises(InputError):
        EngineOptions.from_dict(values)


@pytest.mark.parametrize(
    ("size", "covered"),
    [((1, 8, 8), True), ((1, 32, 32), True), ((1, 8, 32), True), ((1, 4, 8), False), ((1, 8, 36), False),
     ((2, 8, 8), False)],
    ids=str,
)  # fmt: skip
def test_what_a_range_covers(size: tuple[int, int, int], covered: bool) -> None:
    assert EngineOptions(size_range=SIZES).covers(size) == covered
    assert not EngineOptions().covers(size)


def test_a_range_is_padded_as_pictures_are() -> None:
    options = with_range(EngineOptions(3), ((30, 31), (65, 90)), (2, 64, 64), 16)
    assert options.size_range == ((2, 32, 32), (2, 64, 64), (2, 80, 96))


@pytest.mark.parametrize("best", [(1, 16, 64), (1, 64, 16), (1, 128, 64)], ids=str)
def test_a_range_without_the_plans_size(best: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="does not hold the size to compile for: 32x32, "):
        with_range(EngineOptions(), ((32, 32), (64, 64)), best, 16)


def test_progress_goes_to_the_log_where_nobody_asks_for_it(caplog: pytest.LogCaptureFixture) -> None:
    CompileSettings(1).report("building an engine")
    assert caplog.messages == ["building an engine"]
    assert CompileSettings(1).options == EngineOptions()
