"""Float32 for the first evaluations, half precision after, on one pair of buffers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.backends import mixed
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (1, 6, 4, 4)


class FakeNetwork:
    """Writes its precision's number and the step."""

    def __init__(self, number: float, engine: bytes | None) -> None:
        self.context = None
        self.packed, self.output = np.zeros(SHAPE, np.float32), np.zeros((1, 3, 4, 4), np.float32)
        self.context = None
        self.number, self.engine, self.times = number, engine, None

    def evaluate(self, step: int) -> None:
        self.output[...] = self.number + step + self.packed[0, 0, 0, 0]

    def retime(self, modulation: Any) -> None:
        self.times = modulation

    def export(self) -> bytes | None:
        return self.engine

    def share(self, other: Any) -> None:
        self.packed, self.output = other.packed, other.output


class FakeBackend:
    name, device = "fake", "cpu"

    def __init__(self, *engines: bytes | None) -> None:
        self.engines = dict(zip(("fp32", "bf16"), engines or (b"exact", b"rough!"), strict=True))
        self.made: list[tuple[str, str]] = []
        self.networks: list[FakeNetwork] = []

    def precisions(self) -> tuple[str, ...]:
        return ("fp32", "bf16")

    def _make(self, how: str, precision: str) -> FakeNetwork:
        self.made.append((how, precision))
        self.networks.append(FakeNetwork({"fp32": 100.0, "bf16": 200.0}[precision], self.engines[precision]))
        return self.networks[-1]

    def compile(
        self, graph: bytes, modulation: Any, shape: Any, precision: str, settings: CompileSettings
    ) -> FakeNetwork:
        return self._make("compile", precision)

    def restore(
        self, engine: bytes, modulation: Any, shape: Any, precision: str, settings: CompileSettings
    ) -> FakeNetwork:
        return self._make(f"restore {engine.decode()}", precision)


def compiled(backend: Any, precision: str) -> Any:
    return mixed.compile_network(backend, b"", np.zeros((4, 1), np.float32), SHAPE, precision, CompileSettings(1))


@pytest.mark.parametrize(
    ("precision", "half", "after"),
    [("bf16", "bf16", 0), ("fp32", "fp32", 0), ("bf16-after-1", "bf16", 1), ("fp16-after-12", "fp16", 12),
     ("bf16-after-0", "bf16-after-0", 0), ("fp32-after-1", "fp32-after-1", 0), ("", "", 0)],
)  # fmt: skip
def test_names(precision: str, half: str, after: int) -> None:
    assert mixed.split(precision) == (half, after)


@pytest.mark.parametrize(
    ("precision", "cpu", "cuda"),
    [("fp32", True, True), ("bf16", True, True), ("bf16-after-2", True, False), ("fp16-after-1", False, False),
     ("bf16-after-0", False, False), ("int8", False, False)],
)  # fmt: skip
def test_who_runs_what(precision: str, cpu: bool, cuda: bool) -> None:
    for device, expected in (("cpu", cpu), ("cuda", cuda)):
        backend: Any = SimpleNamespace(device=device, precisions=lambda: ("fp32", "bf16"))
        assert mixed.runs(backend, precision) == expected


@pytest.mark.parametrize(
    ("precision", "steps", "expected"),
    [("bf16", 5, "bf16-after-1"), ("bf16-after-1", 5, "bf16-after-2"), ("bf16-after-2", 5, None), ("bf16", 1, None),
     ("bf16", 2, "bf16-after-1"), ("fp32", 9, None)],
)  # fmt: skip
def test_more_of_float32_is_tried_up_to_half(precision: str, steps: int, expected: str | None) -> None:
    assert mixed.longer(precision, steps) == expected


def test_the_first_evaluations_are_exact() -> None:
    backend = FakeBackend()
    network = compiled(backend, "bf16-after-2")
    assert backend.made == [("compile", "fp32"), ("compile", "bf16")]
    network.packed[...] = 0.5
    given = []
    for step in range(4):
        network.evaluate(step)
        given.append(network.output[0, 0, 0, 0])
    assert given == [100.5, 101.5, 202.5, 203.5]
    times = np.ones((4, 1), np.float32)
    network.retime(times)
    assert all(each.times is times for each in backend.networks)


def test_one_precision_is_one_network() -> None:
    backend = FakeBackend()
    assert compiled(backend, "bf16") is backend.networks[0]
    assert backend.made == [("compile", "bf16")]


def test_two_engines_are_one_in_a_plan() -> None:
    engine = compiled(FakeBackend(), "bf16-after-1").export()
    backend = FakeBackend()
    more = (np.zeros((4, 1), np.float32), SHAPE)
    network = mixed.restore_network(backend, engine, *more, "bf16-after-1", CompileSettings(1))
    assert backend.made == [("restore exact", "fp32"), ("restore rough!", "bf16")]
    assert network.export() == engine
    mixed.restore_network(backend, b"alone", *more, "bf16", CompileSettings(1))
    assert backend.made[-1] == ("restore alone", "bf16")


@pytest.mark.parametrize("engines", [(None, b"rough"), (b"exact", None), (None, None)])
def test_without_one_engine_there_is_none(engines: tuple[bytes | None, bytes | None]) -> None:
    assert compiled(FakeBackend(*engines), "bf16-after-1").export() is None


@pytest.mark.parametrize("engine", [b"", b"short", b"\xff" * 20])
def test_an_engine_that_is_not_two(engine: bytes) -> None:
    backend: Any = FakeBackend()
    with pytest.raises(BackendError, match="does not hold two networks for bf16-after-1"):
        mixed.restore_network(backend, engine, np.zeros((4, 1), np.float32), SHAPE, "bf16-after-1", CompileSettings(1))
    assert backend.made == []


def test_on_a_real_engine_each_step_is_its_precisions(tiny) -> None:
    engine = backends.get("openvino")
    if "bf16" not in engine.precisions():
        pytest.skip("this processor does not compute bfloat16")
    shape = (1, 6, 8, 12)
    packed = np.random.default_rng(0).standard_normal(shape, np.float32)
    outputs: dict[str, list[bytes]] = {}
    networks = {}
    for precision in ("fp32", "bf16", "bf16-after-1"):
        network = mixed.compile_network(engine, tiny.graph, tiny.modulation, shape, precision, CompileSettings(1))
        networks[precision] = network
        network.packed[...] = packed
        outputs[precision] = []
        for step in (0, 1, 2, 0):
            network.evaluate(step)
            outputs[precision].append(network.output.tobytes())
    exact, rough, both = (outputs[name] for name in ("fp32", "bf16", "bf16-after-1"))
    assert both == [exact[0], rough[1], rough[2], exact[0]]
    assert exact[1] != rough[1]
    # And so again from its engine.
    exported = networks["bf16-after-1"].export()
    assert exported is not None
    network = mixed.restore_network(engine, exported, tiny.modulation, shape, "bf16-after-1", CompileSettings(1))
    network.packed[...] = packed
    for step, expected in enumerate(both[:3]):
        network.evaluate(step)
        assert network.output.tobytes() == expected
