"""Whether a plan restores: what a build sees of its own result on the calibration pictures.

A wrong process (schedule, max_sigma, T, what the network predicts) gives no error: it gives pictures of noise. A build
has the solver's result and its many-step solution at hand anyway, and three things tell them from restored pictures:
how far the two are apart; where the clean pictures are known, whether the result is nearer to them than the degraded
ones; and where they are not, whether it is a picture at all. The limits were measured: docs/solvers.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mrs.runtime.manifest import JsonObject
from mrs.runtime.psnr import PictureArray, mean_psnr

# dB between few and many steps. Restoring plans have 22 and more, wrong processes less than 18.
FAR = 20.0
# Part of the values at 0 or 1, above that of the degraded pictures; of pictures 0.05, of wrong processes 0.3 and more.
CLIPPED = 0.2
# Mean difference of neighbours. Pictures have less than 0.1, noise 0.2 and more.
ROUGH = 0.17

# Who has a published checkpoint finds its process there.
PRESETS = " (`mrs-trt presets` lists the published settings, for --preset)"

Pictures = Sequence[PictureArray]


@dataclass(frozen=True)
class Look:
    """What is seen of some pictures.

    Attributes:
        truth_db: PSNR to the clean pictures; None where these are unknown, or equal.
        clipped: part of the values that lie at 0 or 1.
        roughness: mean absolute difference of neighbouring values.
    """

    truth_db: float | None
    clipped: float
    roughness: float


@dataclass(frozen=True)
class Verdict:
    """What a build saw of its own result, in float32.

    Attributes:
        of_truth: whether the clean pictures are known.
        degraded, few, many: what is seen of the degraded pictures, and of the two results.
    """

    of_truth: bool
    degraded: Look
    few: Look
    many: Look

    def warnings(self, few_to_many_db: float | None, steps: int, said: bool) -> list[str]:
        """Why the plan does not restore, and the likely cause, in one line; none where it does.

        Args:
            few_to_many_db: PSNR between the solver's result and that of many steps; None where they are equal.
            steps: network evaluations of the solver.
            said: whether the process is what the checkpoint itself says.
        """
        fault = self._fault(self.few, "its result")
        if fault is None and few_to_many_db is not None and few_to_many_db < FAR:
            number = f"{steps} evaluation{'s' * (steps > 1)} end"
            fault = f"{number}{'s' * (steps == 1)} {few_to_many_db:.1f} dB from what many give"
        if fault is None:
            return []
        if self._fault(self.many, "") is not None:
            cause = "weights that do not restore" if said else "a wrong schedule, max_sigma, T or network output"
            cause += "" if said else PRESETS
        else:
            cause = (
                f"too few evaluations for this solver{'' if said else ', or a max_sigma that is too large' + PRESETS}"
            )
        return [f"this plan does not restore: {fault}; likely cause: {cause}"]

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: JsonObject) -> Verdict:
        """From what `to_dict` gave."""
        looks = [Look(**values[name]) for name in ("degraded", "few", "many")]
        return Verdict(values["of_truth"], *looks)

    def _fault(self, look: Look, what: str) -> str | None:
        """What is wrong with a result; None where nothing is."""
        if self.of_truth:
            # Without a finite PSNR they are equal to the clean ones.
            found, given = (math.inf if each.truth_db is None else each.truth_db for each in (look, self.degraded))
            if found > given:
                return None
            return f"{what} is {found:.1f} dB from the clean pictures, the degraded ones {given:.1f} dB"
        if look.clipped > self.degraded.clipped + CLIPPED:
            return f"{100 * look.clipped:.0f} % of {what} are black or white"
        return f"{what} is noise" if look.roughness > max(ROUGH, self.degraded.roughness) else None


def verdict_of(degraded: Pictures, clean: Pictures, few: Pictures, many: Pictures) -> Verdict:
    """Judge a result.

    Args:
        degraded: calibration pictures, (H, W, C) in [0, 1] each.
        clean: the same without their degradation; where not all of them are known, they do not count.
        few, many: restored by the solver, and in many steps.
    """
    if len(clean) < len(degraded):
        clean = ()
    looks = (
        Look(mean_psnr(one, clean) if clean else None, _mean(_clipped, one), _mean(_roughness, one))
        for one in (degraded, few, many)
    )
    return Verdict(bool(clean), *looks)


def _mean(measure: Callable[[PictureArray], float], pictures: Pictures) -> float:
    return float(np.mean([measure(picture) for picture in pictures]))


def _clipped(picture: PictureArray) -> float:
    """Half of one of 255 levels counts as none."""
    return float(np.mean((picture < 0.5 / 255) | (picture > 1 - 0.5 / 255)))


def _roughness(picture: PictureArray) -> float:
    differences = [np.abs(np.diff(picture, axis=axis)).mean() for axis in (0, 1) if picture.shape[axis] > 1]
    return float(np.mean(differences)) if differences else 0.0
