"""What diffusers' schedulers make of a small problem: the recipe of `peers.json`, and the problem itself.

    pip install diffusers==0.42.1 torch
    python -m tests.golden.peers > tests/golden/peers.json

In y = x - mu, and with S = 1 (max_sigma 255), the process is diffusers' own: y_t = a_t y_0 + s_t eps, a^2 + s^2 = 1.
So its schedulers run as they are, on our a and s, in float64 (they would cast to float32), with noise that is given to
them. Of each case its settings and the states after half of the steps and after all of them are kept.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrs.numerics.schedule import Schedule

Array = NDArray[np.float64]

STEPS = 10
TIMES = tuple(range(100, -1, -100 // STEPS))
SCHEDULE = Schedule(max_sigma=255.0)
MEAN = np.array([0.3, -0.2, 0.1, 0.0, 0.45, -0.4])
START = np.array([0.7, -1.1, 0.2, 1.9, -0.4, -1.6])
# Row i is what step i draws.
NOISE = np.sin(np.arange(1.0, STEPS + 1)[:, None] * 12.9898 + np.arange(6.0) * 78.233) * 1.4
DPM, UNIPC, DEIS, SA = (
    f"{name}Scheduler" for name in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "SASolver")
)


def noise_prediction(y: Array, t: float) -> Array:
    """The network: the best one for pixels of this mean and a deviation of 0.15, and a ripple that is not linear."""
    a, s = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
    return s * (y - a * MEAN) / ((0.15 * a) ** 2 + s**2) + 0.05 * np.sin(5 * y + t / 20)


class Case(NamedTuple):
    """A scheduler with its settings, and the solver of ours that it must equal."""

    scheduler: str
    settings: dict[str, Any]
    ours: dict[str, Any]


def dpm(algorithm: str, variant: str, order: int, method: str, prediction: str) -> Case:
    """A multistep DPM-Solver."""
    settings = {"algorithm_type": algorithm, "solver_type": variant, "solver_order": order}
    return Case(
        DPM,
        {**settings, "final_sigmas_type": "sigma_min"},
        {"method": method, "order": order, "prediction": prediction},
    )


def ours(method: str, order: int, prediction: str, **more: Any) -> dict[str, Any]:
    """Arguments of `mrs.Solver`."""
    return {"method": method, "order": order, "prediction": prediction, **more}


TAU = 0.6
CASES = [
    *(dpm("dpmsolver++", "midpoint", *of) for of in ((1, "dpm++", "data"), (2, "dpm++-2m", "data"))),
    *(dpm("dpmsolver++", "heun", *of) for of in ((2, "dpm++", "data"), (2, "ode", "data"), (3, "ode", "data"))),
    *(dpm("dpmsolver", "midpoint", *of) for of in ((1, "dpm++", "noise"), (2, "dpm++-2m", "noise"))),
    *(dpm("dpmsolver", "heun", *of) for of in ((2, "dpm++", "noise"), (2, "ode", "noise"), (3, "ode", "noise"))),
    *(dpm("sde-dpmsolver++", "midpoint", *of) for of in ((1, "sde", "data"), (2, "sde-2m", "data"))),
    dpm("sde-dpmsolver++", "heun", 2, "sde", "data"),
    dpm("sde-dpmsolver", "midpoint", 2, "sde-2m", "noise"),
    dpm("sde-dpmsolver", "heun", 2, "sde", "noise"),
    *(
        Case(
            UNIPC,
            {"solver_type": f"bh{variant}", "solver_order": order, "predict_x0": prediction == "data"},
            ours(f"unipc-b{variant}", order, prediction),
        )
        for variant in (1, 2)
        for order in (2, 3)
        for prediction in ("data", "noise")
    ),
    # Its DEIS takes polynomials in log(s/a) = -lam, where ours takes them in t: that is the exponential Adams method.
    *(Case(DEIS, {"solver_order": order}, ours("dpm++", order, "noise")) for order in (1, 2, 3)),
    Case("DDIMScheduler", {"eta": 0.0}, ours("dpm++", 1, "data")),
    Case("DDIMScheduler", {"eta": 1.0}, ours("posterior", 1, "data")),
    Case("DDPMScheduler", {"variance_type": "fixed_small"}, ours("posterior", 1, "noise")),
    Case("HeunDiscreteScheduler", {}, ours("heun", 2, "noise", steps=2 * STEPS - 1)),
    *(
        Case(
            SA,
            {"predictor_order": order, "algorithm_type": f"{prediction}_prediction"},
            ours("sa", order, prediction, stochasticity=TAU),
        )
        for prediction, order in (("data", 1), ("data", 2), ("noise", 1), ("noise", 2), ("noise", 3))
    ),
]  # fmt: skip


class InFloat64:
    """Torch, where a scheduler asks for float32 and gets float64."""

    def __init__(self, torch: Any) -> None:
        self.float32, self._torch = torch.float64, torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)


@contextlib.contextmanager
def in_float64(scheduler: type, draws: Iterator[Any]) -> Iterator[None]:
    """Make a scheduler's module compute in float64 and draw what it is given."""
    module = sys.modules[scheduler.__module__]
    kept = {name: getattr(module, name) for name in ("torch", "randn_tensor") if hasattr(module, name)}
    module.torch = InFloat64(module.torch)
    module.randn_tensor = lambda *args, **more: next(draws)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(module, name, value)


def states(case: Case) -> list[Array]:
    """y after each step, as diffusers computes it."""
    torch, diffusers = importlib.import_module("torch"), importlib.import_module("diffusers")
    scheduler_class = getattr(diffusers, case.scheduler)
    draws = iter(torch.tensor(NOISE))
    with in_float64(scheduler_class, draws):
        return list(_states(case, scheduler_class, torch, draws))


def _states(case: Case, scheduler_class: Any, torch: Any, draws: Iterator[Any]) -> Iterator[Array]:
    settings = {key: value for key, value in case.settings.items() if key != "eta"}
    if case.scheduler in ("DDIMScheduler", "DDPMScheduler"):
        settings["clip_sample"] = False
    if case.scheduler == SA:
        settings["tau_func"] = lambda t: TAU
    scheduler = scheduler_class(num_train_timesteps=101, trained_betas=np.full(101, 0.01), **settings)
    scheduler.set_timesteps(STEPS)
    times, pairs = torch.tensor(TIMES), case.scheduler == "HeunDiscreteScheduler"
    a, s = (torch.tensor(values(TIMES)) for values in (SCHEDULE.alpha, SCHEDULE.sigma))
    sigmas = s / a
    if pairs:
        times, sigmas = (torch.cat([of[:1], of[1:-1].repeat_interleave(2), of[-1:]]) for of in (times, sigmas))
    # DDPM takes what follows its last time for free of noise, which t = 0 is not here.
    scheduler.sigmas, scheduler.timesteps = sigmas, times if case.scheduler == "DDPMScheduler" else times[:-1]
    scheduler.alphas_cumprod = torch.tensor(SCHEDULE.alpha(range(101)) ** 2)
    # Some want pictures of several dimensions.
    y = torch.tensor(START)[None]
    # Heun's states are y / a.
    scale = a if pairs else torch.ones_like(a)
    x = y / scale[0]
    for index, t in enumerate(times[:-1]):
        at = TIMES.index(int(t))
        output = torch.tensor(noise_prediction((x * scale[at]).numpy(), float(t)))
        x = _step(case, scheduler, output, t, x, draws)
        assert x.dtype == torch.float64
        end = at + 1 if not pairs or index % 2 == 0 else at
        yield (x * scale[end]).numpy()[0]


def _step(case: Case, scheduler: Any, output: Any, t: Any, x: Any, draws: Iterator[Any]) -> Any:
    if case.scheduler == DPM and case.settings["algorithm_type"].startswith("sde"):
        return scheduler.step(output, t, x, variance_noise=next(draws)).prev_sample
    if case.scheduler == "DDIMScheduler":
        eta = case.settings["eta"]
        return scheduler.step(output, t, x, eta=eta, variance_noise=next(draws) if eta else None).prev_sample
    # SA-Solver's corrector begins from it; here is the predictor alone.
    scheduler.last_sample = None if case.scheduler == SA else getattr(scheduler, "last_sample", None)
    return scheduler.step(output, t, x).prev_sample


def main() -> None:
    """Write the numbers of all cases."""
    quiet = importlib.import_module("diffusers.utils.logging")
    quiet.set_verbosity_error()
    found = []
    for case in CASES:
        after = states(case)
        kept = {"half": after[len(after) // 2 - 1].tolist(), "end": after[-1].tolist()}
        found.append({**case._asdict(), **kept})
    version = importlib.import_module("diffusers").__version__
    lines = ",\n".join(json.dumps(case) for case in found)
    print(f'{{"diffusers": "{version}", "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
