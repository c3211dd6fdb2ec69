"""A restore by the GPU's kernels, each launch compared in full with the reference.

Where there is no GPU the kernels run through Triton's interpreter, which must be chosen before triton is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrs.kernels.noise import normal
from mrs.kernels.table import Row, Table
from tests import interpreter

MISSING = [name for name in ("torch", "triton") if find_spec(name) is None]
if not MISSING:
    import torch

    interpreter.choose()

TOLERANCE = 1e-6  # where noise was drawn, relative to the absolute terms of a row
GUARD = 64  # elements before and after each array, which no launch may touch


class LeftOut(pytest.Module):
    """A file of tests that cannot be loaded here."""

    def collect(self) -> Any:
        pytest.skip(f"{' and '.join(MISSING)} not installed")


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    return LeftOut.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(scope="session")
def interpreted() -> bool:
    """Whether the kernels run through the interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(scope="session")
def device(interpreted: bool) -> str:
    """Where the kernels run."""
    return "cpu" if interpreted else "cuda"


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """The arrays are tiny."""


@pytest.fixture(scope="session", autouse=True)
def _hastened() -> None:
    interpreter.hasten()


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """The interpreter is NumPy, which warns where a GPU computes with infinities and NaN without a word."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="session")
def restore(device: str) -> Callable[..., Restore]:
    """A restore with given rows, see `Restore`."""
    return lambda rows, **more: Restore(device, rows, **more)


def rounded(tensor: Any, dtype: Any) -> Any:
    """One rounding of float32 to a type of the network."""
    if dtype == torch.bfloat16 and tensor.device.type == "cpu":
        # The interpreter cuts off the bits that the GPU's instruction rounds to nearest; the kernels are the same.
        tensor = (tensor.contiguous().view(torch.int32) & -0x10000).view(torch.float32)
    return tensor.to(dtype)


def numpy(tensor: Any) -> Any:
    """A copy as NumPy's, float32 where the type is a floating one."""
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy().copy()


def bits(tensor: Any) -> bytes:
    """All that a tensor holds, whatever its strides."""
    return bytes(tensor.contiguous().flatten().view(torch.uint8).cpu().numpy())


@dataclass
class Restore:
    """The arrays of a restore, poisoned, and launches on them.

    Each launch is compared with the reference on the same arrays: to the bit, and where noise was drawn within
    TOLERANCE. The network's input must be one rounding of the very numbers written beside it, the padding zero, and
    nothing else touched, in the arrays or around them. Of the records only the one that a launch needs is there.

    Attributes:
        rows: of the table, with the clamp and the deviation of x_T - mu.
        images, channels, size, padded: of the batch; padded as the size by default.
        dtype, last, picture: types and layout of the network's arrays and of pictures.
        shift: bytes from where wide accesses may begin, of every array.
        key: arguments of `tables.key`.
        given: the pictures, (N, H, W, C); random ones by default.
        outputs: what the network gives, (N, C, H, W) each; random numbers by default.
    """

    device: str
    rows: Sequence[Row]
    images: int = 1
    channels: int = 3
    size: tuple[int, int] = (4, 16)
    padded: tuple[int, int] | None = None
    dtype: str = "float32"
    channels_last: bool = False
    picture: str = "uint8"
    clamp: str = "none"
    deviation: float = 0.2
    shift: int = 0
    key: dict[str, Any] = field(default_factory=lambda: {"seed": 5})
    given: Any = field(default=None, repr=False)
    outputs: Iterator[Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        from mrs.kernels import gpu
        from mrs.kernels.gpu import tables

        self.generator = np.random.default_rng(0)
        self.memory: dict[str, Any] = {}
        self.begins: dict[str, int] = {}
        high, wide = self.padded or self.size
        state, pictures = (self.images, self.channels, high, wide), (self.images, *self.size, self.channels)
        times = tuple(float(n) for n in range(len(self.rows), -1, -1))
        solver = Table(times, tuple(self.rows), self.deviation, self.clamp)
        self.mu, self.x = self._array("mu", state), self._array("x", state)
        self.output = self._array("output", state, self.dtype, self.channels_last)
        self.packed = self._array(
            "packed", (self.images, 2 * self.channels, high, wide), self.dtype, self.channels_last
        )
        self.history = self._array("history", (solver.history, *state))
        self.source, self.result = (self._array(name, pictures, self.picture) for name in ("source", "result"))
        self.counts = self._array("counts", gpu.workspace(self.images), "int32").zero_()
        self.bounds = self._array("bounds", (self.images,))
        self.table = tables.records(solver)
        self.records = self._array("records", self.table.shape)
        self.words = tables.key(**self.key)
        self.memory["key"] = torch.from_numpy(self.words).to(self.device)
        if self.given is None:
            floats = self.generator.random(pictures, dtype=np.float32)
            self.given = (floats * 256).astype(np.uint8) if self.picture == "uint8" else floats
        self.source.copy_(torch.from_numpy(self.given))

    def _array(self, name: str, shape: Sequence[int], dtype: str = "float32", channels_last: bool = False) -> Any:
        """Poisoned memory, and an array (N, C, H, W) or any other within it."""
        size, kind = int(np.prod(shape)), getattr(torch, dtype)
        poison = float("nan") if kind.is_floating_point else 77
        memory = torch.full((size + 2 * GUARD,), poison, dtype=kind, device=self.device)
        begin = GUARD + self.shift // memory.element_size()
        self.memory[name], self.begins[name] = memory, begin
        array = memory[begin : begin + size]
        if not channels_last:
            return array.view(*shape)
        images, channels, high, wide = shape
        return array.view(images, high, wide, channels).permute(0, 3, 1, 2)

    def inside(self, array: Any) -> Any:
        """What of (..., H', W') belongs to the picture."""
        return array[..., : self.size[0], : self.size[1]]

    def fill(self) -> None:
        """As in the middle of a restore: random state and predictions, zero in the padding."""
        for array in (self.x, self.mu, self.history):
            array.zero_()
            inner = self.inside(array)
            inner.copy_(torch.from_numpy(self.generator.normal(0.5, 0.8, tuple(inner.shape))))
        if self.launch("step").name == "step_pixels":
            # Written anew with the other half.
            self.packed[:, self.channels :] = rounded(self.mu, self.packed.dtype)
        self.predict()

    def predict(self) -> None:
        """Let the network give its next output, and NaN in the padding."""
        self.output.fill_(float("nan"))
        inner = self.inside(self.output)
        given = next(self.outputs) if self.outputs else self.generator.normal(0.3, 1.0, tuple(inner.shape))
        inner.copy_(torch.from_numpy(given))

    def draws(self, draw: int) -> Any:
        """The noise of a launch, (N, C, H, W)."""
        seed, image, top, left = map(int, self.words)
        shape = (self.images, self.channels, *self.size)
        return normal(seed, draw, shape, origin=(top, left), image=image)

    def launch(self, kernel: str, index: int = 0) -> Any:
        """A launch that is checked and ready to run; the first one of a threshold."""
        from mrs.kernels.gpu import finish, start, step, threshold  # noqa: F401  # loads the modules of these names

        function = getattr(sys.modules[f"mrs.kernels.gpu.{kernel}"], "launches" if kernel == "threshold" else "launch")
        made = function(*self.arguments(kernel, index))
        return made[0] if kernel == "threshold" else made

    def arguments(self, kernel: str, index: int = 0) -> tuple[Any, ...]:
        """Of a kernel, in its order."""
        state, key = (self.x, self.mu, self.output), self.memory["key"]
        if kernel == "start":
            return self.source, self.mu, self.x, self.packed, self.records, key
        if kernel == "threshold":
            return *state, self.records, self.counts, self.bounds, index, self.size
        tables = (self.records, key, self.bounds if self.clamp == "threshold" else None, index)
        if kernel == "step":
            return *state, self.history, self.packed, *tables, self.size
        return *state, self.history, self.result, *tables

    def _run(self, kernel: str, index: int, *written: str) -> tuple[Any, ...]:
        """Run a kernel and its reference, which gets NumPy's arrays; its arguments, less an index and a size."""
        from mrs.kernels import gpu
        from mrs.kernels.gpu import reference

        self.records.fill_(float("nan"))
        self.records[index + 1] = torch.from_numpy(self.table[index + 1])
        arguments = self.arguments(kernel, index)
        expected = tuple(numpy(value) if isinstance(value, torch.Tensor) else value for value in arguments)
        before = {name: memory.clone() for name, memory in self.memory.items()}
        getattr(gpu, kernel)(*arguments)
        for name, memory in self.memory.items():
            if name in written:
                begin = self.begins[name]
                end = memory.numel() - 2 * GUARD + begin
                assert bits(memory[:begin]) == bits(before[name][:begin]), f"before {name}"
                assert bits(memory[end:]) == bits(before[name][end:]), f"after {name}"
            else:
                assert bits(memory) == bits(before[name]), f"{name} is only read"
        getattr(reference, kernel)(*expected)
        return expected

    def start(self) -> None:
        """Run and compare `start`."""
        _, mu, x, *_ = self._run("start", -1, "mu", "x", "packed")
        np.testing.assert_array_equal(numpy(self.mu), mu)
        terms = np.abs(self.inside(mu)) + self.deviation * (1 + np.abs(self.draws(0)))
        self._compare(numpy(self.x), x, terms)
        self._compare_input(torch.cat([self.x - self.mu, self.mu], 1))

    def step(self, index: int) -> None:
        """Run and compare `step`."""
        terms = self._terms(index, *map(numpy, (self.x, self.mu, self.output, self.history)))
        kept = self.packed[:, self.channels :].clone()
        x, _, _, history, *_ = self._run("step", index, "x", "history", "packed")
        np.testing.assert_array_equal(numpy(self.history), history)
        self._compare(numpy(self.x), x, terms)
        self._compare_input(torch.cat([self.x - self.mu, kept.float()], 1))

    def threshold(self, index: int) -> None:
        """Run and compare `threshold`."""
        *_, bounds, _, _ = self._run("threshold", index, "counts", "bounds")
        np.testing.assert_array_equal(numpy(self.bounds), bounds)
        # Ready for the next.
        assert not self.counts.any()

    def finish(self, index: int) -> None:
        """Run and compare `finish`."""
        x, mu, output, history, picture, *rest = self._run("finish", index, "result")
        terms = self._terms(index, x, mu, output, history)
        if terms is None or self.picture == "float32":
            self._compare(numpy(self.result).transpose(0, 3, 1, 2), picture.transpose(0, 3, 1, 2), terms)
            return
        from mrs.kernels.gpu import reference

        exact = np.empty(picture.shape, np.float32)
        reference.finish(x, mu, output, history, exact, *rest)
        difference = np.abs(numpy(self.result) - 255 * exact.astype(np.float64)).transpose(0, 3, 1, 2)
        assert (difference <= 0.5 + 1e-4 + 255 * TOLERANCE * terms).all()

    def run(self) -> None:
        """A whole restore."""
        self.start()
        last = len(self.rows) - 1
        for index in range(len(self.rows)):
            self.predict()
            if self.clamp == "threshold":
                self.threshold(index)
            (self.finish if index == last else self.step)(index)

    def _terms(self, index: int, x: Any, mu: Any, output: Any, history: Any) -> Any:
        """Sum of the absolute terms of a row inside the picture; None for one that draws no noise."""
        w = Row._make(map(float, self.table[index + 1, : len(Row._fields)]))
        if not w.n:
            return None
        q0 = np.abs(w.cx * x + w.cm * mu + w.cf * output)
        q1, q2, q3 = (np.abs(history[(index - back) % len(history)]) if len(history) else 0 for back in (1, 2, 3))
        if self.clamp != "none":
            q0 = np.minimum(q0, 1)
        if w.m:
            q0 = (1 - w.m) * q0 + w.m * q1
        terms = abs(w.ax) * np.abs(x) + abs(w.am) * np.abs(mu) + abs(w.b0) * q0
        for weight, q in ((w.b1, q1), (w.b2, q2), (w.b3, q3)):
            if weight:
                terms = terms + abs(weight) * q
        return self.inside(terms) + abs(w.n) * (1 + np.abs(self.draws(index + 1)))

    def _compare(self, ours: Any, expected: Any, terms: Any) -> None:
        if terms is None:
            np.testing.assert_array_equal(ours, expected)
            return
        same = (ours == expected) | (np.isnan(ours) & np.isnan(expected))
        difference = np.abs(ours.astype(np.float64) - expected)
        inside = self.inside(same)
        inside |= self.inside(difference) <= TOLERANCE * terms
        assert same.all()

    def _compare_input(self, expected: Any) -> None:
        np.testing.assert_array_equal(numpy(self.packed), numpy(rounded(expected, self.packed.dtype)))
