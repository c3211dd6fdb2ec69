"""Every kind of published network as a graph, with inputs and what the published code makes of them."""

from __future__ import annotations

import functools
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.unet.context import context_size
from mrs.export.graph_variant import GraphVariant
from tests.export.architectures.unet.examples import CONDITIONED, contexts
from tests.golden.networks import golden, weights

F32 = NDArray[np.float32]
UNETS = (*CONDITIONED, "unet_denoising")
NAMES = (*UNETS, "nafnet_denoising", "nafnet_latent_dehazing", "nafnet_latent_bokeh")
# Largest error of a precision, relative to the largest output.
BOUNDS = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 4e-2}


@dataclass(frozen=True)
class Case:
    """A network and one batch of its inputs.

    Attributes:
        graph: the plan's.
        modulation: a row for each time.
        packed: x - mu and mu, with the margin that the network wants.
        context: what it is told of the pictures; None where that is nothing.
        outputs: of each time, without the margin.
    """

    graph: bytes
    modulation: F32
    packed: F32
    context: F32 | None
    outputs: tuple[F32, ...]

    def error(self, output: F32, step: int) -> float:
        """Largest error of an output with margin, relative to the largest number wanted."""
        wanted = self.outputs[step]
        height, width = wanted.shape[2:]
        return float(np.abs(output[..., :height, :width] - wanted).max() / np.abs(wanted).max())


def network(name: str, which: int = 1) -> Any:
    """The published module; where it is told of lenses, with those of an input's first picture."""
    # A cache takes a call with a default for another than one that says as much.
    return _network(name, which)


@functools.cache
def _network(name: str, which: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        net: Any = load_checkpoint(weights(f"{name}.pth", Path(folder)))
    lenses = golden(name).get(f"lens_{which}")
    if lenses is None:
        return net
    made = replace(net.arch, lenses=tuple(map(float, lenses[0]))).module().eval()
    made.load_state_dict(net.state_dict())
    return made


@functools.cache
def graph(name: str) -> bytes:
    """In the form that GPUs run."""
    net = network(name)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return bytes(net.arch.graph(state, GraphVariant("layernorm", "split")).SerializeToString())


def case(name: str, which: int = 1) -> Case:
    """A network with the first or the second of its published inputs; of a batch with other lenses the first."""
    return _case(name, which)


@functools.cache
def _case(name: str, which: int) -> Case:
    net, arrays = network(name, which), golden(name)
    found = {float(match[1]): key for key in arrays if (match := re.fullmatch(rf"out_{which}_t(\d[\d.]*)", key))}
    assert len(found) >= 3
    count = 1 if f"lens_{which}" in arrays else None
    x = torch.tensor(arrays[f"xt_{which}"][:count])
    # A network without a condition sees their sum, whatever mu is.
    mu = torch.tensor(arrays[f"cond_{which}"][:count]) if f"cond_{which}" in arrays else x.flip(3)
    multiple = net.arch.multiple
    margin = (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple)
    packed = F.pad(torch.cat([x - mu, mu], dim=1), margin, "reflect" if name in UNETS else "constant")
    context = None
    if name in UNETS and context_size(net.arch):
        with torch.no_grad():
            context = net.context(**contexts(name, str(which)))[:, :, None, None].numpy()
    with torch.no_grad():
        modulation = net.arch.modulation(net, list(found))
    return Case(graph(name), modulation, packed.numpy(), context, tuple(arrays[key][:count] for key in found.values()))
