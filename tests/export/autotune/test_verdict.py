"""Pictures of noise are told from restored ones, and the likely cause is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.building.calibration import calibration_pairs
from mrs.export.autotune.verdict import PRESETS, Verdict, verdict_of

F32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def degraded() -> list[F32]:
    return [pair.degraded[:64, :64] / np.float32(255) for pair in calibration_pairs(None, "rain", 16)]


@pytest.fixture(scope="module")
def clean() -> list[F32]:
    pairs = calibration_pairs(None, "rain", 16)
    return [pair.clean[:64, :64] / np.float32(255) for pair in pairs if pair.clean is not None]


def noisy(pictures: list[F32], sigma: float) -> list[F32]:
    random = np.random.default_rng(0)
    return [np.clip(p + random.normal(0, sigma, p.shape), 0, 1).astype(np.float32) for p in pictures]


def lines(verdict: Verdict, far: float | None = 30.0, said: bool = True, steps: int = 5) -> list[str]:
    return verdict.warnings(far, steps, said)


@pytest.mark.parametrize("known", [True, False], ids=["clean known", "clean unknown"])
@pytest.mark.parametrize("far", [22.0, None])
def test_restored_pictures_are_no_cause_to_warn(
    degraded: list[F32], clean: list[F32], known: bool, far: float | None
) -> None:
    assert lines(verdict_of(degraded, clean if known else [], noisy(clean, 0.02), clean), far) == []


@pytest.mark.parametrize("known", [True, False], ids=["clean known", "clean unknown"])
@pytest.mark.parametrize(("sigma", "says"), [(2.0, "black or white"), (0.2, "noise")])
def test_noise(degraded: list[F32], clean: list[F32], known: bool, sigma: float, says: str) -> None:
    noise = noisy(clean, sigma)
    (line,) = lines(verdict_of(degraded, clean if known else [], noise, noise), None, said=False)
    assert line.startswith("this plan does not restore: ")
    assert ("dB from the clean pictures, the degraded ones" if known else says) in line
    assert line.endswith(f"likely cause: a wrong schedule, max_sigma, T or network output{PRESETS}")
    (line,) = lines(verdict_of(degraded, clean if known else [], noise, noise), None, said=True)
    assert line.endswith("likely cause: weights that do not restore")


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (True, "too few evaluations for this solver"),
        (False, f"too few evaluations for this solver, or a max_sigma that is too large{PRESETS}"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["clean known", "clean unknown"])
def test_where_many_steps_restore(degraded: list[F32], clean: list[F32], known: bool, said: bool, cause: str) -> None:
    (line,) = lines(verdict_of(degraded, clean if known else [], noisy(clean, 2.0), clean), 5.0, said)
    assert line.endswith(f"likely cause: {cause}")


@pytest.mark.parametrize(("steps", "text"), [(1, "1 evaluation ends 13.8 dB"), (3, "3 evaluations end 13.8 dB")])
def test_a_result_far_from_that_of_many_steps(degraded: list[F32], clean: list[F32], steps: int, text: str) -> None:
    (line,) = lines(verdict_of(degraded, [], clean, clean), 13.8, steps=steps)
    assert f"{text} from what many give" in line


def test_clean_pictures_of_some_do_not_count(degraded: list[F32], clean: list[F32]) -> None:
    assert not verdict_of(degraded, clean[:1], clean, clean).of_truth


def test_to_json_and_back(degraded: list[F32], clean: list[F32]) -> None:
    verdict = verdict_of(degraded, clean, clean, degraded)
    assert verdict.few.truth_db is None
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
