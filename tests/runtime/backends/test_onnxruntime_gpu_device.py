"""ONNX Runtime on a real GPU: what its double cannot show. Each engine is skipped by name where it is not installed."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from mrs.runtime import backends  # noqa: E402 (needs the libraries above)

pytestmark = pytest.mark.gpu
SIDE = 64


@pytest.fixture(params=["onnxruntime-cuda", "onnxruntime-tensorrt"])
def engine(request: pytest.FixtureRequest) -> str:
    reason = backends.get(request.param).missing()
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")
    return request.param


@pytest.fixture(scope="module")
def picture() -> Any:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def loaded(engine: str, precision: str = "fp32", **more: Any) -> Any:
    from benchmarks.gpu.restores import SMALL, plan_of, random_network
    from mrs import Schedule, Solver, tableau
    from mrs.runtime.session import Restorer

    table = tableau(Schedule(), Solver("sde", 2, steps=4))
    return Restorer(plan_of(random_network(SMALL), table, SIDE, engine, precision), **more)


def test_a_restore_is_that_of_torch_in_float32(engine: str, picture: Any) -> None:
    with loaded(engine) as ours, loaded("torch-eager") as theirs:
        for seed in (0, 7):
            found, wanted = (each.restore(picture, seed=seed).astype(int) for each in (ours, theirs))
            assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_about_as_near_as_torchs(engine: str, picture: Any, precision: str) -> None:
    if precision not in backends.get(engine).precisions():
        pytest.skip(f"no {precision} on this GPU")
    pictures = []
    for name, one in ((engine, precision), ("torch-eager", precision), ("torch-eager", "fp32")):
        with loaded(name, one) as restorer:
            pictures.append(restorer.restore(picture, seed=0).astype(float))
    ours, theirs, exact = pictures
    assert np.sqrt(np.mean((ours - exact) ** 2)) <= 2 * np.sqrt(np.mean((theirs - exact) ** 2)) + 0.5


def test_tensors_and_any_thread_get_the_same_picture(engine: str, picture: Any) -> None:
    with loaded(engine) as restorer:
        wanted = restorer.restore(picture, seed=3)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(restorer.restore(picture, seed=3)))
        thread.start()
        thread.join()
        tensor = restorer.restore(torch.from_numpy(picture).cuda(), seed=3)
        restorer.synchronize()
        np.testing.assert_array_equal(found[0], wanted)
        np.testing.assert_array_equal(tensor.cpu().numpy(), wanted)


def test_replays_take_no_more_memory(engine: str, picture: Any) -> None:
    with loaded(engine) as restorer:
        restorer.restore(picture, seed=0)
        torch.cuda.synchronize()
        grown = []
        # The memory is the whole device's: what other processes take meanwhile they do not take every time.
        for _ in range(3):
            before = torch.cuda.mem_get_info()[0]
            for seed in range(50):
                restorer.restore(picture, seed=seed)
            torch.cuda.synchronize()
            grown.append(before - torch.cuda.mem_get_info()[0])
        assert min(grown) <= 0, grown
