"""What a checkpoint says of its training holds, unless it is contradicted; weights that ship are known by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mrs.building import source
from mrs.building.build import build
from mrs.numerics.schedule import Schedule
from mrs.runtime.errors import CheckpointError
from tests.mrs.building.builds import ARCH, SCHEDULE, quickly

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(4)]

# What holds for a checkpoint


def process(*given: Any, **more: Any) -> tuple[Schedule, str]:
    read = source.read_source(*given, **more)
    return read.schedule, read.output


def test_what_is_given_goes_before_what_the_checkpoint_says(weights: Path, golden) -> None:
    read = source.read_source(weights)
    assert (read.arch, read.path, read.schedule, read.output) == (ARCH, weights, SCHEDULE, "data")
    assert process(weights, Schedule(), "velocity", override=True) == (Schedule(), "velocity")
    # A published checkpoint says nothing.
    assert process(golden.weights) == (Schedule(), "noise")


@pytest.mark.parametrize(
    ("schedule", "output", "says"),
    [
        ({"max_sigma": 50.0}, None, "max_sigma 30.0; given is 50.0"),
        ({"T": 1000, "kind": "linear"}, None, "kind cosine, T 50; given are linear, 1000"),
        ({"eps": 0.01}, "noise", "eps 0.005, network output data; given are 0.01, noise"),
    ],
)
def test_a_checkpoint_is_contradicted_only_when_said_twice(
    weights: Path, path: Path, schedule: dict[str, Any], output: str | None, says: str
) -> None:
    given = replace(SCHEDULE, **schedule)
    with pytest.raises(CheckpointError) as caught:
        build(weights, path, schedule=given, output=output)
    assert caught.value.message == f"{weights} says {says}"
    assert "--override-checkpoint" in caught.value.hint
    assert not path.exists()
    assert process(weights, given, output, override=True) == (given, output or "data")


def test_what_is_no_part_of_the_training_is_free(weights: Path) -> None:
    given = replace(SCHEDULE, interpolation="exact", convention="ir-sde")
    assert process(weights, given, "data") == (given, "data")


# Weights by name


def test_weights_that_ship_are_known_by_name(
    weights: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "drizzle.safetensors").write_bytes(weights.read_bytes())
    monkeypatch.setattr(source, "WEIGHTS", shipped)
    monkeypatch.chdir(tmp_path)
    assert quickly("drizzle", path).manifest["checkpoint"]["name"] == "drizzle.safetensors"
    for other in ("none", "./drizzle", "shipped/../drizzle"):
        with pytest.raises(CheckpointError, match="does not exist"):
            quickly(other, path)
    # A file of one's own goes first.
    (tmp_path / "drizzle").write_text("no weights")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        quickly("drizzle", path)
