"""Noise schedules of mean-reverting diffusion, as float64 tables over t = 0..T.

The process is dx = theta_t (mu - x) dt + sqrt(2 theta_t) S dw with S = max_sigma / 255, whose marginals are

    x_t = mu + a_t (x0 - mu) + s_t eps,    a_t = exp(-Theta_t dt),    s_t = S sqrt(1 - a_t^2).

IR-SDE's denoising process has the clean picture itself as its mean, mu = x0. Then x_t = x0 + s_t eps: noise of the same
s_t, and nothing of the picture decays. It is the same formula with a_t = 1, so that solvers need not know of it.

Sources: IR-SDE (arXiv 2301.11699, eq. 3-6 and its `sde_utils.py`, `IRSDE` and `DenoisingSDE`), MR Sampler (arXiv
2502.07856, section 3 and its published sampler, which differs from IR-SDE only in where the sum Theta starts).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrs.runtime.errors import InputError

Array = NDArray[np.float64]

KINDS = ("cosine", "linear", "constant")
CONVENTIONS = ("mr-sampler", "ir-sde")
INTERPOLATIONS = ("published", "exact")
PROCESSES = ("mean-reverting", "denoising")
# Far above any use; tables of all steps are held in memory.
MOST_STEPS = 100_000
# 1 / eps is a weight of rows, which are float32 where they run.
LEAST_EPS = 1e-30


@dataclass(frozen=True)
class Schedule:
    """A mean-reverting noise schedule.

    Args:
        kind: `cosine`, `linear` or `constant`: the shape of theta_t.
        max_sigma: S in 0..255 units, 1 to 255, the standard deviation of the stationary noise. Refusion uses 50, IR-SDE
            10 or 30. Published code takes a value below 1 as divided by 255 already; here it is refused, because
            nobody trains with less than one level of noise, and a value of the other convention would pass for one.
        eps: a_T, what is left of x0 - mu at the end of the forward process, from 1e-30 to below 1.
        T: number of forward steps, 2 to 100,000; the network was trained on t = 1..T.
        convention: where Theta_t starts. `ir-sde` sums theta_1..theta_t, so a_0 = 1 and s_0 = 0 exactly;
            `mr-sampler` sums theta_0..theta_t, so a little noise is left at t = 0.
        interpolation: between whole t. `published` draws lines through a, s and lam, each by itself, so that they do
            not quite belong together there. `exact` draws the line through Theta, as if theta were constant in
            between: s^2 = S^2 (1 - a^2) and lam = log(a / s) hold at every t.
        process: `mean-reverting` goes from the clean picture to the degraded one under noise of S; `denoising` adds
            noise to the clean picture, up to S sqrt(1 - eps^2). Its published eps is 0.04.

    Raises:
        InputError: for a name or a value outside the ranges above.
    """

    kind: str = "cosine"
    max_sigma: float = 50.0
    eps: float = 0.005
    T: int = 100
    convention: str = "mr-sampler"
    interpolation: str = "published"
    process: str = "mean-reverting"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"schedule kind {self.kind!r} is unknown", hint=f"use one of {', '.join(KINDS)}")
        if self.convention not in CONVENTIONS:
            raise InputError(
                f"schedule convention {self.convention!r} is unknown", hint=f"use one of {', '.join(CONVENTIONS)}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"schedule interpolation {self.interpolation!r} is unknown",
                hint=f"use one of {', '.join(INTERPOLATIONS)}",
            )
        if self.process not in PROCESSES:
            raise InputError(f"process {self.process!r} is unknown", hint=f"use one of {', '.join(PROCESSES)}")
        if self.process == "denoising" and self.convention != "ir-sde":
            raise InputError("the denoising process is IR-SDE's", hint="use convention ir-sde")
        for name in ("max_sigma", "eps", "T"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InputError(f"schedule {name} {value!r} is not a number")
        if 0 < self.max_sigma < 1:
            raise InputError(
                f"max_sigma {self.max_sigma} is below 1, which published code takes as divided by 255 already",
                hint=f"it is in 0..255 units: give {255 * self.max_sigma:.4g}",
            )
        if not (1 <= self.max_sigma <= 255):
            raise InputError(
                f"max_sigma {self.max_sigma} is outside [1, 255]", hint="it is in 0..255 units, such as 50"
            )
        if not (0 < self.eps < 1):
            raise InputError(f"eps {self.eps} is outside (0, 1)", hint="published checkpoints use 0.005")
        if self.eps < LEAST_EPS:
            raise InputError(
                f"eps {self.eps:g} is below {LEAST_EPS:g}: 1 / eps, a solver's weight, would overflow float32",
                hint="published checkpoints use 0.005",
            )
        steps: object = self.T
        if not isinstance(steps, int) or not 2 <= steps <= MOST_STEPS:
            raise InputError(
                f"T {self.T} is not a whole number from 2 to {MOST_STEPS}", hint="published checkpoints use 100"
            )

    @property
    def denoises(self) -> bool:
        """Whether the process starts from the noisy picture itself, at the time at which it has that much noise."""
        return self.process == "denoising"

    def time_of_noise(self, sigma: float) -> float:
        """The t at which the process has noise of `sigma`, in 0..255 units; fractional.

        The published code takes the nearest whole t (`get_optimal_timestep`).

        Raises:
            InputError: for less noise than there is at any time above 0, or more than at T.
        """
        most = 255.0 * float(self.sigmas[-1])
        if not 0 < sigma <= most:
            raise InputError(
                f"noise of {sigma:g} is outside (0, {most:.4g}], what the process reaches",
                hint="it is the standard deviation in 0..255 units, such as 25",
            )
        if self.interpolation == "exact":
            Theta = -0.5 * math.log1p(-((sigma / self.max_sigma) ** 2)) / self.dt
            return float(np.interp(Theta, self.Theta, np.arange(self.T + 1)))
        return float(np.interp(sigma / 255.0, self.sigmas, np.arange(self.T + 1)))

    @property
    def S(self) -> float:
        """Standard deviation of the stationary noise in picture units ([0, 1])."""
        return self.max_sigma / 255.0

    @cached_property
    def theta(self) -> Array:
        """theta_t for t = 0..T, shape (T+1,)."""
        if self.kind == "cosine":
            n = self.T + 2
            c = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * (math.pi / 2)) ** 2
            return 1.0 - c[1:-1] / c[0]
        if self.kind == "linear":
            return np.linspace(1e-4, 0.02, self.T + 1) * (1000.0 / (self.T + 1))
        return np.ones(self.T + 1)

    @cached_property
    def Theta(self) -> Array:
        """The running sum of theta in this schedule's convention, shape (T+1,)."""
        total = np.cumsum(self.theta)
        return total - self.theta[0] if self.convention == "ir-sde" else total

    @cached_property
    def dt(self) -> float:
        """Length of one forward step, set so that exp(-Theta_T dt) = eps."""
        return float(-math.log(self.eps) / self.Theta[-1])

    @cached_property
    def alphas(self) -> Array:
        """a_t for t = 0..T, shape (T+1,)."""
        return np.ones(self.T + 1) if self.denoises else np.exp(-self.Theta * self.dt)

    @cached_property
    def sigmas(self) -> Array:
        """s_t for t = 0..T, shape (T+1,), in picture units."""
        # expm1 keeps s_t exact where a_t is near 1.
        return self.S * np.sqrt(-np.expm1(-2.0 * self.Theta * self.dt))

    @cached_property
    def half_log_snrs(self) -> Array:
        """lam_t = log(a_t / s_t) for t = 0..T, shape (T+1,); lam_0 is inf where s_0 = 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.alphas) - np.log(self.sigmas)

    def alpha(self, t: ArrayLike) -> Array:
        """a at t in [0, T]."""
        if not self.denoises and self.interpolation == "exact":
            return np.exp(-self._interpolate(t, self.Theta) * self.dt)
        return self._interpolate(t, self.alphas)

    def sigma(self, t: ArrayLike) -> Array:
        """s at t in [0, T], in picture units."""
        if self.interpolation == "exact":
            return self.S * np.sqrt(-np.expm1(-2.0 * self._interpolate(t, self.Theta) * self.dt))
        return self._interpolate(t, self.sigmas)

    def half_log_snr(self, t: ArrayLike) -> Array:
        """lam at t in [0, T].

        With the `ir-sde` convention lam_0 is infinite, so that a line from it says nothing: between 0 and 1 lam is
        log(a / s) of the a and s there.
        """
        t = np.asarray(t, dtype=np.float64)
        lam = self.half_log_snrs
        if self.interpolation == "published" and np.isfinite(lam[0]):
            return self._interpolate(t, lam)
        with np.errstate(divide="ignore"):
            of_both = np.log(self.alpha(t)) - np.log(self.sigma(t))
        if self.interpolation == "exact":
            return of_both
        return np.where(t < 1, of_both, self._interpolate(np.maximum(t, 1.0), lam))

    def to_dict(self) -> dict[str, object]:
        """The constructor's arguments, as JSON values."""
        return asdict(self)

    def _interpolate(self, t: ArrayLike, table: Array) -> Array:
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0) & (t <= self.T)):
            raise InputError(f"time {t} is outside [0, {self.T}]", hint="times count forward steps")
        below = t.astype(np.int64)
        above = np.minimum(below + 1, self.T)
        return table[below] + (t - below) * (table[above] - table[below])
