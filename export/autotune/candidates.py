"""What there is to choose from on this machine, before anything is measured."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from mrs.export import quantise
from mrs.export.autotune.workload import Target
from mrs.runtime import backends
from mrs.runtime.backends import Backend, mixed
from mrs.runtime.errors import BackendError


@dataclass(frozen=True)
class Candidate:
    """One backend at one precision, and what was measured of it.

    Attributes:
        variant: the graph variant that it ran, see `GraphVariant`.
        latency_ms: median of a whole restore at the plan's shape, and its quartiles.
        parity_db: PSNR to float32 at the same steps and noise; None where they are equal.
        truth_db: PSNR to the clean pictures, less float32's; None where these are unknown.
        passed: whether it may be chosen.
        reason: why not, or which part of the rule let it pass.
    """

    backend: str
    precision: str
    latency_ms: float = math.nan
    quartiles_ms: tuple[float, float] = (math.nan, math.nan)
    parity_db: float | None = None
    truth_db: float | None = None
    passed: bool = False
    reason: str = ""
    variant: str = ""

    def to_dict(self) -> dict[str, object]:
        """JSON values; what was not measured is null."""
        return {key: _json(value) for key, value in asdict(self).items()}


def candidates(target: Target) -> list[Candidate]:
    """Every backend and precision of a target that runs here, not measured yet.

    Raises:
        BackendError: where there is none, or int8 or fp8 is asked for and no graph can be made for it.
    """
    asked = _available(target.device) if target.backend == "auto" else [backends.get(target.backend)]
    found = [
        Candidate(entry.name, precision)
        for entry in asked
        if entry.missing() is None
        for precision in (entry.precisions() if target.precision == "auto" else (target.precision,))
        if mixed.runs(entry, precision)
    ]
    if not found:
        reasons = [f"{entry.name}: {entry.missing() or 'no ' + target.precision + ' here'}" for entry in asked]
        raise BackendError(
            "no backend can run here" if target.precision == "auto" else f"nothing can run {target.precision} here",
            hint="; ".join(reasons) or "pip install openvino",
        )
    reason = quantise.missing(target.precision)
    if reason is not None:
        raise BackendError(reason)
    return [entry for entry in found if quantise.missing(entry.precision) is None]


def float32_backend(target: Target) -> Backend:
    """What all others are compared to.

    Raises:
        BackendError: where nothing runs.
    """
    if target.backend != "auto":
        backend = backends.get(target.backend)
        reason = backend.missing()
        if reason is not None:
            raise BackendError(f"backend {target.backend} cannot run here: {reason}")
        return backend
    usable = _available(target.device)
    if not usable:
        known = [entry for entry in backends.BACKENDS.values() if target.device in ("auto", entry.device)]
        raise BackendError(
            "no backend can run here" if target.device == "auto" else f"no backend can run on {target.device} here",
            hint="; ".join(f"{entry.name}: {entry.missing()}" for entry in known),
        )
    return usable[0]


def check_runnable(target: Target) -> None:
    """Refuse what could not be chosen from.

    Raises:
        BackendError: where nothing can run, or nothing that was asked for.
    """
    float32_backend(target)
    candidates(target)


def _available(device: str) -> list[Backend]:
    return [entry for entry in backends.available() if device in ("auto", entry.device)]


def _json(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_json(entry) for entry in value] if isinstance(value, tuple) else value
