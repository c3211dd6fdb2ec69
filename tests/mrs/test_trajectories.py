"""Published networks through published samplers, in torch and as plans, whose chains mirror what the network pads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mrs
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from tests.golden.networks import golden, weights

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(12)]

# The solver of each run, and how many steps its process has.
RUNS = {
    "mr_ode2_5": (Solver("ode", 2, steps=5), 100),
    "mr_ode2_10": (Solver("ode", 2, steps=10), 100),
    "mr_sde2_10": (Solver("sde", 2, steps=10), 100),
    "posterior_T10": (Solver("posterior", 1, steps=10), 10),
}
NETWORKS = {"trajectory_irsde": "irsde_unet_d2", "trajectory_daclip": "daclip_unet_full"}
TOLERANCE = 1e-4
Denoise = Callable[[NDArray[Any], NDArray[Any], float], NDArray[Any]]


def schedule_of(T: int) -> Schedule:
    return Schedule(max_sigma=50, T=T, convention="ir-sde" if T == 10 else "mr-sampler")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("trajectories")
    return lambda name: weights(f"{name}.pth", folder)


def denoiser(net: Any, **told: torch.Tensor) -> Denoise:
    def denoise(x: NDArray[Any], mu: NDArray[Any], t: float) -> NDArray[Any]:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t, **told).numpy()

    return denoise


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", NETWORKS)
def test_published_trajectories(path: Callable[[str], Path], name: str, run: str) -> None:
    arrays, (solver, T) = golden(name), RUNS[run]
    told = {key: torch.tensor(arrays[key]) for key in ("text_context", "image_context") if key in arrays}
    schedule = schedule_of(T)
    start = (arrays["x_T"] - arrays["mu"]) / schedule.S
    result = mrs.sample(
        denoiser(mrs.load_checkpoint(path(NETWORKS[name])), **told), arrays["mu"].copy(), tableau(schedule, solver),
        arrays["noise_bank_10"], start.astype(np.float32), clamp=False,
    )  # fmt: skip
    expected = arrays.get(f"{run}_final_preclip", arrays.get(f"{run}_final"))
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("run", "engine"), [("mr_ode2_5", "openvino"), ("posterior_T10", "onnxruntime")], ids=["openvino", "onnxruntime"]
)
def test_plans_restore_as_torch_does(path: Callable[[str], Path], tmp_path: Path, run: str, engine: str) -> None:
    solver, T = RUNS[run]
    checkpoint = path("irsde_unet_d2")
    plan = mrs.build(
        checkpoint, tmp_path / "a.mrsplan", schedule=schedule_of(T), solver=solver, size=(22, 30), backend=engine,
        precision="fp32", threads=1,
    )  # fmt: skip
    assert plan.facts.network.padding == "reflect"
    denoise = denoiser(mrs.load_checkpoint(checkpoint))
    mu = golden("trajectory_irsde")["mu"][:1].copy()
    with mrs.load(tmp_path / "a.mrsplan", threads=1) as restorer:
        # As it is, mirrored, and smaller than the published code can.
        for height, width in ((20, 28), (22, 30), (2, 1)):
            part = np.ascontiguousarray(mu[..., :height, :width])
            restored = restorer.restore(part[0].transpose(1, 2, 0), seed=3)
            expected = mrs.sample(denoise, part, plan.facts.table, seed=3)[0].transpose(1, 2, 0)
            assert restored.dtype == np.float32
            np.testing.assert_allclose(restored, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_plan_takes_noise_away_as_published(path: Callable[[str], Path], tmp_path: Path, engine: str) -> None:
    """`reverse_ode` of DenoisingSDE from the whole time that fits noise of 25."""
    arrays, checkpoint = golden("trajectory_denoising"), path("unet_denoising")
    start = int(arrays["T_for_sigma25"])
    schedule = Schedule(max_sigma=75, eps=0.04, convention="ir-sde", process="denoising")
    solver = Solver("euler-ode", 1, "noise", start, start_time=start)
    plan = mrs.build(
        checkpoint, tmp_path / "a.mrsplan", schedule=schedule, solver=solver, noise_sigma=25, size=(22, 30),
        backend=engine, precision="fp32", threads=1,
    )  # fmt: skip
    assert plan.facts.table.times[:-1] == tuple(arrays["net_t"])
    noisy = np.ascontiguousarray(arrays["lq"].transpose(0, 2, 3, 1))
    with mrs.load(tmp_path / "a.mrsplan", threads=1) as restorer:
        # The published noisy picture goes beyond [0, 1], where `restore` takes none: what it would call takes it.
        with restorer.chain((1, 22, 30)) as chain:
            state = chain.solve(noisy, 0, (0, 0)).copy()
        np.testing.assert_allclose(state, arrays["ode_final"], rtol=0, atol=TOLERANCE)
        clamped = noisy.clip(0, 1)
        restored = restorer.restore(clamped)
    net = mrs.load_checkpoint(checkpoint)
    mu = np.ascontiguousarray(clamped.transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = mrs.sample(lambda x, mu, t: net(torch.from_numpy(x), t).numpy(), mu, plan.facts.table)
    np.testing.assert_allclose(restored, expected.transpose(0, 2, 3, 1), rtol=0, atol=TOLERANCE)
