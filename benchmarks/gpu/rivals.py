"""One step as torch users write it: plain operations, eager or compiled.

Their noise is `torch.randn_like`, which depends on shape and device, as `step`'s does not. The weights are constants to
the compiler, and every shape is compiled for itself: the best that torch.compile is given to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.gpu.cases import Arrays, Case, weights
from benchmarks.gpu.gate import GateError
from benchmarks.gpu.published import Compiler
from mrs.kernels.table import Row

Update = Callable[[], None]


def update(
    row: Row,
    x: torch.Tensor,
    mu: torch.Tensor,
    output: torch.Tensor,
    older: Sequence[torch.Tensor],
    kept: torch.Tensor | None,
    input_: torch.Tensor,
) -> None:
    """`step` on pictures without padding: x, kept and the input's first channels are written."""
    q0 = row.cx * x + row.cm * mu + row.cf * output.float()
    total = row.ax * x + row.am * mu + row.b0 * q0
    for weight, q in zip((row.b1, row.b2, row.b3), older, strict=False):
        if weight:
            total = total + weight * q
    if row.n:
        total = total + row.n * torch.randn_like(x)
    x.copy_(total)
    if kept is not None:
        kept.copy_(q0)
    input_.copy_(total - mu)


def rivals(case: Case, arrays: Arrays, compiler: Compiler | None = None) -> dict[str, Update]:
    """The case's step in torch on the same arrays, `eager` and `compiled`.

    Args:
        case: of `step`.
        arrays: its own.
        compiler: `torch.compile` with its default mode, if None.
    """
    row, keep = weights(case)
    slots = list(arrays.history)
    # As in `tables.records`: step i keeps its prediction in slot i mod slots.
    older = [slots[(case.index - back) % len(slots)] for back in range(1, len(slots) + 1)]
    kept = slots[case.index % len(slots)] if keep else None

    # A view given is better than a view taken: no compiler needs to prove that the other channels stay.
    given = (arrays.x, arrays.mu, arrays.output, older, kept, arrays.packed[:, : arrays.x.shape[1]])

    def one_step(*given: Any) -> None:
        update(row, *given)

    compiled = (compiler or default_compiler())(one_step)
    return {"eager": lambda: one_step(*given), "compiled": lambda: compiled(*given)}


def default_compiler() -> Compiler:
    """`torch.compile` as it is, having forgotten what it compiled for other cases: it gives up after a few."""
    torch.compiler.reset()
    return lambda function: torch.compile(function, dynamic=False)


def check(name: str, case: Case, arrays: Arrays, kernel: Update, rival: Update) -> None:
    """Compare a rival with the kernel on the case's arrays; noise by its mean and deviation.

    Raises:
        GateError: where they differ.
    """
    history = arrays.history.clone()
    kernel()
    x, kept = arrays.x.clone(), arrays.history.clone()
    arrays.x.copy_(arrays.first)
    arrays.history.copy_(history)
    # What the kernel wrote must not stand for what the rival did not write.
    arrays.packed[:, : x.shape[1]] = float("nan")
    rival()
    difference, noise = arrays.x - x, weights(case)[0].n
    if noise:
        # Two draws differ by one of twice the variance.
        drawn, bound = difference / (noise * 2**0.5), 6 * difference.numel() ** -0.5
        right = abs(float(drawn.mean())) < bound and abs(float(drawn.std()) - 1) < bound
    else:
        right = _close(arrays.x, x, 1e-5)
    input_ = torch.cat([arrays.x - arrays.mu, arrays.mu], 1)
    if not (right and _close(arrays.history, kept, 1e-5) and _close(arrays.packed.float(), input_, 2.0**-7)):
        raise GateError(f"torch, {name}: its result is not that of {case.name}")


def _close(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    return bool(((one - other).abs() <= tolerance * (1 + other.abs())).all())
