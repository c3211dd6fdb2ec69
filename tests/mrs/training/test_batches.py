"""Batches: patches of the pictures, degraded, with times and noise that depend on seed and iteration alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mrs import degradations
from mrs.numerics.schedule import Schedule
from mrs.training import train
from mrs.training.train import load_pictures
from tests.mrs.training.recipes import RECIPE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_batch_is_made_of_the_pictures_and_their_degradation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(degradations.DEGRADATIONS, "half", lambda picture, rng: picture / 2)
    pictures = load_pictures(folder, 16)
    recipe = replace(RECIPE, degradation="half", batch=40)
    clean, mu, t, noise, tasks = train._batch(pictures, recipe, 3)
    assert tasks.tolist() == ["half"] * 40
    assert clean.shape == mu.shape == noise.shape == (40, 3, 16, 16)
    assert clean.dtype == mu.dtype == noise.dtype == np.float32
    np.testing.assert_array_equal(mu, clean / 2)
    assert 0 <= clean.min() < clean.max() <= 1
    crops = {
        crop.tobytes()
        for picture in pictures
        for y in range(picture.shape[0] - 15)
        for x in range(picture.shape[1] - 15)
        for crop in (picture[y : y + 16, x : x + 16], picture[y : y + 16, x : x + 16][:, ::-1])
    }
    for patch in clean:
        assert np.rint(255 * patch.transpose(1, 2, 0)).astype(np.uint8).tobytes() in crops
    assert t.shape == (40,)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_a_mixed_batch_knows_what_was_done_to_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level, name in enumerate(degradations.TASKS):
        monkeypatch.setitem(
            degradations.DEGRADATIONS, name, lambda picture, rng, level=level: np.full_like(picture, level / 10)
        )
    pictures = load_pictures(folder, 16)
    _, mu, _, _, tasks = train._batch(pictures, replace(RECIPE, degradation="mixed", batch=60), 0)
    names = list(degradations.TASKS)
    assert set(tasks.tolist()) == set(names)
    for patch, task in zip(mu, tasks.tolist(), strict=True):
        assert patch.max() == np.float32(names.index(task) / 10)


def test_a_drawn_task_goes_on_with_the_same_numbers() -> None:
    picture = data.astronaut()[60:90, 200:240].astype(np.float32) / np.float32(255)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        degraded = degradations.get(degradations.draw("mixed", rng))(picture, rng)
        expected = degradations.get("mixed")(picture, np.random.default_rng(seed))
        np.testing.assert_array_equal(degraded, expected)


def test_all_times_are_drawn_but_0(folder: Path) -> None:
    recipe = replace(RECIPE, schedule=Schedule(T=5), batch=20)
    pictures = load_pictures(folder, 16)
    times = np.concatenate([train._batch(pictures, recipe, iteration)[2] for iteration in range(10)])
    assert set(times.tolist()) == {1, 2, 3, 4, 5}


def test_batches_depend_on_seed_and_iteration_alone(folder: Path) -> None:
    pictures = load_pictures(folder, 16)
    from_start = dict(train._batches(pictures, RECIPE, 0))
    assert list(from_start) == list(range(9))
    for iteration, batch in train._batches(pictures, RECIPE, 5):
        for part, again in zip(from_start[iteration], batch, strict=True):
            np.testing.assert_array_equal(part, again)
    assert not np.array_equal(from_start[0][3], from_start[1][3])
    assert not np.array_equal(from_start[0][3], train._batch(pictures, replace(RECIPE, seed=2), 0)[3])


def test_grey_of_16_bits_is_scaled(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    levels = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "clean" / "a.png")
    (picture,) = load_pictures(tmp_path / "clean", 16)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.rint(levels / 257).astype(np.uint8)[..., None].repeat(3, 2))
