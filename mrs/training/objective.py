"""What training minimises, for a network that predicts noise or velocity.

Noise: IR-SDE's loss (arXiv 2301.11699, eq. 13, "maximum likelihood"), the L1 distance between the mean of the network's
reverse step and the step that is optimal when x0 is known.

Velocity: the L1 distance to `a S z - (s / S) (x0 - mu)` (arXiv 2202.00512, for a process around mu). The published
loss counts an error of the predicted x0 at time t by the step's own share, which falls to a thousandth at T, and a
noise there is divided by a_T = 0.005 on the way to x0. Few evaluations live by the first ones: velocity counts an error
of x0 by S / s at every time, nearly 1 where a restore begins, and no rounding is enlarged.

Of the denoising process, whose mean is the clean picture, the published loss is the same one: its network predicts
noise from the noisy picture alone, and x0 in the drift of its reverse step is what that noise says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrs.numerics.schedule import Schedule

OUTPUTS = ("noise", "velocity")


class Objective:
    """The loss, with its coefficients as tables over t."""

    def __init__(self, schedule: Schedule, output: str, device: torch.device) -> None:
        """
        Args:
            schedule: the forward process.
            output: what the network predicts, one of `OUTPUTS`.
            device: of the tables.
        """

        def table(values: NDArray[np.float64]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        s = schedule.sigmas
        # Of the noise; of the picture nothing decays in the denoising process.
        a = np.exp(-schedule.Theta * schedule.dt)
        step = schedule.theta * schedule.dt
        before = np.concatenate([[1.0], a[:-1]])
        decay = np.exp(-step)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Weights of x - mu and x0 - mu in the mean of q(x_{t-1} | x_t, x0): IR-SDE, eq. 11. t = 0 is never drawn.
            self.keep_state = table(decay * (1 - before**2) / (1 - a**2))
            self.keep_clean = table(before * (1 - decay**2) / (1 - a**2))
            # The Euler step of the reverse SDE with score -f / s: x - theta (mu - x) dt - 2 theta S^2 dt f / s.
            self.drift = table(step)
            self.score = table(2 * step * schedule.S**2 / s)
            if schedule.denoises:
                # Of its mean x0 the network knows that x0 - x = -s f.
                self.drift = torch.zeros_like(self.drift)
                self.score = table(step * schedule.S**2 * (1 + a**2) / s)
        self.alpha, self.sigma, self.S = table(a), table(s), schedule.S
        self.output, self.denoises = output, schedule.denoises

    def __call__(self, net: Callable[..., Tensor], clean: Tensor, mu: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The loss of each picture, (N,), for clean, mu and noise (N, C, H, W) and t (N,) in 1..T.

        The network is called as `net(x, mu, t)`, for the denoising process, where mu is the clean picture, `net(x, t)`.
        """

        def at(table: Tensor) -> Tensor:
            return table[t][:, None, None, None]

        missing = clean - mu
        x = mu + at(self.alpha) * missing + at(self.sigma) * noise
        predicted = (net(x, t.float()) if self.denoises else net(x, mu, t.float())).float()
        if self.output == "velocity":
            wrong = predicted - at(self.alpha) * self.S * noise + at(self.sigma) / self.S * missing
        else:
            mean = x + at(self.drift) * (x - mu) - at(self.score) * predicted
            wrong = mean - (mu + at(self.keep_state) * (x - mu) + at(self.keep_clean) * missing)
        return wrong.abs().mean(dim=(1, 2, 3))
