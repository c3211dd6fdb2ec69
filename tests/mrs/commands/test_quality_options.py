"""The options of `mrs-trt bench` on quality, as a command has them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from mrs.benchmarking.quality.wanted import Wanted
from mrs.commands.quality_options import DEPENDENT, add_arguments, wanted
from mrs.runtime.errors import InputError


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_defaults_are_those_of_the_record() -> None:
    assert wanted(parsed("--data", "kodak")) == Wanted(data=Path("kodak"))
    assert wanted(parsed()) is None


def test_every_option_arrives() -> None:
    arguments = (
        "--data lq --clean gt --degradation noise --severity 0.5 --data-seed 7 --pictures 3 --middle 64 "
        "--crop-border 0 --seeds 2 --solvers ode-2:3,5 posterior:100 --lpips-weights l.pth"
    )
    assert wanted(parsed(*arguments.split())) == Wanted(
        data=Path("lq"), clean=Path("gt"), degradation="noise", severity=0.5, data_seed=7, pictures=3, middle=64,
        border=0, seeds=2, solvers=("ode-2:3,5", "posterior:100"), lpips=Path("l.pth"),
    )  # fmt: skip


@pytest.mark.parametrize("name", DEPENDENT)
def test_all_need_pictures(name: str) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=f"{flag} needs pictures") as error:
        wanted(parsed(flag, "1"))
    assert error.value.hint == "give --data FOLDER"


def test_fid_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(InputError, match="FID is not measured here") as error:
        parsed("--fid-weights", "f.pth")
    assert "torch-fidelity" in error.value.hint


def test_lpips_without_torch_is_refused_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.commands.arguments.find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(InputError, match="torch not installed"):
        wanted(parsed("--data", "a", "--lpips-weights", "l.pth"))
    assert wanted(parsed("--data", "a")) is not None
