"""mrs-trt: few-step restoration of photographs with mean-reverting diffusion.

Names are loaded when they are first used, so that `import mrs` costs next to nothing and a restore loads no torch.
No module bears the name of a public function: importing the module would hide the function.
"""

from __future__ import annotations

import importlib

from mrs._version import __version__

# As of `typing`, which is not loaded for it: a command line that is interrupted by then can say nothing of its own.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mrs.building.build import build as build
    from mrs.export.architectures import load_checkpoint as load_checkpoint
    from mrs.export.architectures.clip import load_encoder as load_encoder
    from mrs.export.architectures.latent_unet import load_autoencoder as load_autoencoder
    from mrs.kernels.table import Table as Table
    from mrs.numerics.intents import INTENTS as INTENTS
    from mrs.numerics.reference import sample as sample
    from mrs.numerics.schedule import Schedule as Schedule
    from mrs.numerics.solver import Solver as Solver
    from mrs.numerics.tableau import tableau as tableau
    from mrs.runtime.errors import MrsError as MrsError
    from mrs.runtime.request import Cancellation as Cancellation
    from mrs.runtime.session import Restorer as Restorer
    from mrs.runtime.session import load as load
    from mrs.tuning.search import tune as tune

_HOMES = {
    "Cancellation": "mrs.runtime.request",
    "INTENTS": "mrs.numerics.intents",
    "MrsError": "mrs.runtime.errors",
    "Restorer": "mrs.runtime.session",
    "Schedule": "mrs.numerics.schedule",
    "Solver": "mrs.numerics.solver",
    "Table": "mrs.kernels.table",
    "build": "mrs.building.build",
    "load": "mrs.runtime.session",
    "load_autoencoder": "mrs.export.architectures.latent_unet",
    "load_checkpoint": "mrs.export.architectures",
    "load_encoder": "mrs.export.architectures.clip",
    "sample": "mrs.numerics.reference",
    "tableau": "mrs.numerics.tableau",
    "tune": "mrs.tuning.search",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mrs' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
