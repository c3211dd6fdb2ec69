"""`mrs-trt tune --target truth`: a file that a build takes, that says how it was found, and from which one goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrs import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.solver_file import read_solver
from mrs.runtime import backends
from mrs.runtime.plan import read_plan
from mrs.tuning import truth
from mrs.tuning.truth import SCALES

pytestmark = pytest.mark.slow(20)


@pytest.fixture(autouse=True)
def small(quick, monkeypatch) -> None:
    """On the backend of the plan."""
    monkeypatch.setattr(backends.OpenVino, "missing", lambda self: "openvino is switched off")


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    random = np.random.default_rng(0)
    for index in range(3):
        picture = random.integers(60, 200, (9, 9, 3), np.uint8)
        Image.fromarray(picture).resize((36, 36), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def options(clean) -> list[object]:
    return [
        "--target", "truth", "--evaluations", 2, "--crop", 32, "--pictures", 3, "--threads", 1, "--data", clean,
        "--degradation", "rain",
    ]  # fmt: skip


@pytest.fixture
def tune(run, golden, tmp_path, options):
    """Tune nafnet_tiny; what the file holds, and what the command said."""

    def call(*arguments: object, network: object = golden.weights) -> tuple[dict[str, Any], Any]:
        path = tmp_path / "true.json"
        result = run("tune", network, "-o", path, *options, "--overwrite", *arguments)
        assert result.code == 0, result.err
        return json.loads(path.read_text()), result

    return call


def test_the_file_says_what_was_found_and_how_on_which_pictures(tune, tmp_path) -> None:
    found, said = tune()
    solver, schedule = read_solver(tmp_path / "true.json")
    assert schedule == Schedule()
    assert solver == Solver(**found["best"]["solver"])
    assert (found["target"], found["metric"], found["degradation"]) == ("truth", "psnr", "rain")
    assert (found["evaluations"], found["pictures"], found["finished"]) == (2, [3, 32, 32, 3], True)
    assert len(found["plain_settings"]) == len(SCALES) ** 2
    assert found["best"]["searched_db"] >= found["plain"]["searched_db"]
    gain = found["best"]["unseen_db"] - found["plain"]["unseen_db"]
    assert found["gain_unseen_db"] == pytest.approx(gain, abs=2e-3)
    # One picture says nothing of others.
    assert found["gain_unseen_interval"] is None
    header, plain, best, last = said.out.splitlines()
    assert header.split() == ["psnr,", "dB", "searched", "on", "unseen"]
    assert f"{found['plain']['searched_db']:.2f}" in plain
    assert f"{found['best']['unseen_db']:.2f}" in best
    assert last == f"gain on 1 unseen pictures {found['gain_unseen_db']:+.2f} dB"
    assert said.err.startswith("3 crops of 32x32 of 3 pictures, 1 crops of them kept back\nposterior, noise in the")


def test_a_plan_finds_what_its_checkpoint_does_and_is_built_with_it(tune, plan, run, golden, tmp_path) -> None:
    found, _ = tune("-q")
    of_plan, quiet = tune("-q", network=plan)
    assert quiet.err == ""
    assert of_plan["plain"]["searched_db"] == pytest.approx(found["plain"]["searched_db"], abs=0.02)
    made = tmp_path / "made.mrsplan"
    built = run(
        "build", golden.weights, "-o", made, "-q", "--size", "16x16", "--threads", 1, "--solver", tmp_path / "true.json"
    )
    assert built.code == 0, built.err
    assert read_plan(made).manifest["solver"] == of_plan["solver"]


def test_a_search_goes_on_where_the_last_one_ended(tune, options, monkeypatch) -> None:
    given: list[Any] = []
    real = truth.tune_truth

    def spy(*arguments: Any, **named: Any) -> Any:
        given.append(named)
        return real(*arguments, **named)

    monkeypatch.setattr(truth, "tune_truth", spy)
    first, _ = tune("-q", "--seconds", 1)
    again, _ = tune("-q", "--resume", "--seconds", 2)
    assert [named["seconds"] for named in given] == [1, 2]
    assert given[0]["begin"] is None
    assert given[1]["begin"] == Solver(**first["solver"])
    assert again["best"]["searched_db"] >= first["best"]["searched_db"]


def test_a_search_that_is_interrupted_leaves_the_best_so_far(run, golden, tmp_path, options, monkeypatch) -> None:
    better = Solver("posterior", 1, steps=2, spacing="custom", times=(90.0, 30.0, 0.0), noise_scale=0.0)

    def interrupted(*arguments: Any, kept: Any, **named: Any) -> Any:
        kept(better)
        kept(better)
        raise KeyboardInterrupt

    path = tmp_path / "left.json"
    with monkeypatch.context() as patch:
        patch.setattr(truth, "tune_truth", interrupted)
        assert run("tune", golden.weights, "-o", path, "-q", *options).code != 0
    assert read_solver(path)[0] == better
    assert json.loads(path.read_text())["finished"] is False
    assert run("tune", golden.weights, "-o", path, "-q", *options, "--resume", "--seconds", 1).code == 0
    assert json.loads(path.read_text())["finished"] is True


def test_what_was_searched_for_otherwise_is_not_gone_on_from(tune, refuse, golden, tmp_path, options) -> None:
    path = tmp_path / "true.json"
    tune("-q", "--seconds", 1)
    for flags, what in (
        (["--evaluations", 3], "evaluations"),
        (["--degradation", "haze"], "pictures"),
        (["--max-sigma", 30], "schedule"),
    ):
        refuse(
            "tune", golden.weights, "-o", path, *options, "--resume", *flags,
            says=(f"true.json was found for another {what}", "leave --resume out and pass --overwrite"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--metric", "beauty"], ("metric 'beauty' is unknown", "psnr, haarpsi, fsim, gmsd, joined by +")),
        (["--no-fit"], "--no-fit is for the many-step solution"),
        (["--resume"], ("new.json does not exist: nothing to go on from", "leave --resume out")),
        (["--clean", "no/where"], "folder no/where does not exist"),
        (["--crop", "16"], "crops of 16 pixels are too small"),
        (["--pictures", "2"], "2 pictures are too few"),
        (["--target", "ode", "--metric", "psnr"], ("--metric is for the truth", "give --target truth")),
        (["--target", "ode", "--resume"], "--resume is for the truth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(refuse, golden, tmp_path, options, flags, says) -> None:
    refuse("tune", golden.weights, "-o", tmp_path / "new.json", *options, *flags, says=says)


def test_clean_pictures_alone_say_nothing_of_their_damage(refuse, golden, tmp_path, clean, options) -> None:
    refuse(
        "tune", golden.weights, "-o", tmp_path / "new.json", *options[:-2], says="nothing says what degrades the clean"
    )
    at = options.index("--data")
    refuse(
        "tune", golden.weights, "-o", tmp_path / "new.json", *options[:at], "--clean", clean,
        says=("--clean stands beside --data", "give the degraded pictures too"),
    )  # fmt: skip
