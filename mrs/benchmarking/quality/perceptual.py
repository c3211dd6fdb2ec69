"""Metrics nearer to what people see than PSNR, without weights: HaarPSI, FSIMc and GMSD, by piq.

piq (github.com/photosynthesis-team/piq, Apache 2.0) was chosen for its metrics, whose values its tests hold against the
authors' own; docs/benchmarks.md says what else there is. Its package as a whole loads torchvision, of whose networks
these three need nothing, so only their own modules are loaded: they work beside a torch without torchvision too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.errors import InputError

NAMES = ("haarpsi", "fsim", "gmsd")
HINT = 'pip install "mrs-trt[quality]"'

U8 = NDArray[np.uint8]
Score = Callable[[U8, U8], dict[str, float]]


def functions() -> dict[str, Callable[..., Any]] | str:
    """piq's own functions by `NAMES`, of tensors (N, 3, H, W) in [0, data_range]; or why there are none, in words."""
    for library in ("torch", "piq"):
        if find_spec(library) is None:
            return f"{', '.join(NAMES)} not measured: {library} is not installed ({HINT})"
    try:
        return {name: getattr(module, name) for name, module in zip(NAMES, _modules(), strict=True)}
    except (ImportError, AttributeError) as error:
        return f"{', '.join(NAMES)} not measured: piq does not load here: {' '.join(str(error).split())}"


def perceptual() -> Score | str:
    """What measures two pictures (H, W, 3) uint8, the second one clean, by `NAMES`; or why nothing does, in words."""
    found = functions()
    if isinstance(found, str):
        return found

    def score(picture: U8, clean: U8) -> dict[str, float]:
        pair = tensor(picture), tensor(clean)
        return {name: float(function(*pair, data_range=1.0)) for name, function in found.items()}

    return score


def tensor(picture: U8) -> Any:
    """A picture (H, W, 3) uint8 as a tensor (1, 3, H, W) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None])).float() / 255


def _modules() -> list[ModuleType]:
    """The modules of `NAMES`; piq's own `__init__` does not run."""
    spec = find_spec("piq")
    if spec is None:
        raise InputError("piq not installed", hint=HINT)
    hollow = "piq" not in sys.modules
    if hollow:
        # A package that says where its modules are, and has done nothing yet.
        sys.modules["piq"] = module_from_spec(spec)
    try:
        return [import_module(f"piq.{name}") for name in NAMES]
    finally:
        if hollow:
            # Whoever imports it later gets it whole.
            del sys.modules["piq"]
