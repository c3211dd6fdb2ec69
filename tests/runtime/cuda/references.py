"""What a launch of a kernel does on a double: its reference on the same memory, or Triton's interpreter."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

from mrs.kernels.scaling import Fit, Taps

# Of what makes columns fit, by the kernel's names.
COLUMNS = ("top", "first", "weights")


def arguments_of(launch: Any) -> dict[str, Any]:
    """A kernel's arguments by their names."""
    return dict(zip(inspect.signature(launch.kernel.fn).parameters, launch.arguments, strict=False))


def interpret(launch: Any) -> None:
    """Run it as Triton's interpreter does, a hundred times slower."""
    launch.run()


class References:
    """Kernels as their references, on the same memory.

    A threshold is computed when it is chosen, and what is made to fit with its rows.
    """

    def __init__(self) -> None:
        self._counted: dict[int, list[Any]] = {}
        self._fits: dict[int, list[Any]] = {}

    def run(self, launch: Any) -> None:
        from mrs.kernels.gpu import reference

        given = {
            name: value.detach().numpy() if isinstance(value, torch.Tensor) else value
            for name, value in arguments_of(launch).items()
        }
        size = (given.get("height"), given.get("width"))
        kind = launch.name.split("_")[0]
        state = [given.get(name) for name in ("x", "mu", "output")]
        tables = [given.get(name) for name in ("records", "key", "bounds", "index")]
        if kind == "start":
            reference.start(*(given[name] for name in ("picture", "mu", "x", "packed", "records", "key")))
        elif kind == "step":
            reference.step(*state, given["history"], given["packed"], *tables, size)
        elif kind == "finish":
            reference.finish(*state, given["history"], given["picture"], *tables)
        elif kind == "audit":
            reference.audit(given["values"], given["status"])
        elif kind == "mirror":
            reference.mirror(given["packed"], size)
        elif launch.name == "scale_columns":
            self._fits[launch.arguments[3].data_ptr()] = [given["pictures"], *(given[name] for name in COLUMNS)]
        elif launch.name == "scale_rows":
            pictures, top, columns, weights = self._fits.pop(launch.arguments[0].data_ptr())
            across, down = Taps(columns, weights), Taps(given["first"], given["weights"])
            number, top = divmod(top, pictures.shape[1])
            fit = Fit(weights.dtype == np.int32, top, given["height"], across, down)
            reference.scale(pictures, number, fit, given["target"])
        elif kind == "count":
            self._counted[launch.arguments[4].data_ptr()] = [*state, given["records"], given["index"], size]
        elif kind == "choose":
            x, mu, output, records, index, shape = self._counted.pop(launch.arguments[0].data_ptr())
            reference.threshold(x, mu, output, records, given["counts"], given["bounds"], index, shape)
        else:
            assert kind == "find", launch.name
