"""A restore as users of the published code write it on a GPU: a Python loop around the network, in plain torch.

The plainest fair one: no more operations than the formulas need, noise by `torch.randn_like`, pictures converted on the
device. The network is ours, in the form of the published module.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeAlias

import torch

from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.kernels.table import Table

# `torch.compile`, or a double.
Compiler: TypeAlias = Any
Restore = Callable[[torch.Tensor], torch.Tensor]


def published(net: ConditionalNAFNet, table: Table, form: str, compiler: Compiler = torch.compile) -> Restore:
    """The loop with a network in a form.

    Args:
        net: float32, on the device.
        table: of two predictions at most.
        form: of parts.FORMS: whether the network runs operation by operation or through torch.compile with graphs of
            torch's own, the mode that torch recommends for small batches; and its precision.
        compiler: `torch.compile`.

    Returns:
        A function of pictures (N, H, W, C) uint8 on the device, to the same.
    """
    how, _, precision = form.partition(" ")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    network: Callable[..., torch.Tensor] = deepcopy(net).to(dtype=dtype, memory_format=torch.channels_last)
    if how == "compile":
        network = compiler(network, mode="reduce-overhead", fullgraph=True, dynamic=False)

    def evaluate(x: torch.Tensor, mu: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        output = network(x.to(dtype), mu.to(dtype), time).float()
        # Memory of a graph of torch's is written again by the next.
        return output.clone() if how == "compile" else output

    def restore(picture: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            mu = picture.permute(0, 3, 1, 2).float() / 255
            x = mu + table.start * torch.randn_like(mu)
            times = torch.tensor(table.times, dtype=torch.float32, device=picture.device)
            q1 = torch.zeros_like(x)
            for step, row in enumerate(table.rows):
                q0 = row.cx * x + row.cm * mu + row.cf * evaluate(x, mu, times[step])
                x = row.ax * x + row.am * mu + row.b0 * q0 + row.b1 * q1
                if row.n:
                    x = x + row.n * torch.randn_like(x)
                q1 = q0
            return (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    return restore
