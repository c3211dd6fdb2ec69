"""Engines at work on the double: their buffers, addresses, streams and captures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.backends.tensorrt.runner import ALIGNMENT
from mrs.runtime.errors import BackendError, DeviceMemoryError
from tests import tone_network
from tests.tone_network import Net

pytestmark = pytest.mark.slow(5)

SHAPE = (2, 6, 8, 12)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ERRORS = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 5e-2}


@pytest.fixture
def make(backend, tiny) -> Callable[..., Any]:
    return lambda precision="fp32", shape=SHAPE: backend.compile(
        tiny.graph, tiny.modulation, shape, precision, CompileSettings(1)
    )


@pytest.fixture
def packed() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def evaluated(device: Any, network: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    network.packed.copy_(torch.from_numpy(packed))
    network.output.fill_(torch.nan)
    stream = device.stream()
    with device.on(stream):
        network.evaluate(step)
    device.wait(stream)
    return network.output.float().numpy().copy()


def expected(tiny: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    return tiny.denoise(packed[:, :3] + packed[:, 3:], packed[:, 3:], tiny.table.times[step])


# What works


@pytest.mark.parametrize("precision", DTYPES)
def test_every_step_has_its_own_modulation(world, make, tiny, packed, precision: str) -> None:
    network = make(precision)
    for step in (2, 0, 0, 1, 2):
        wanted, made = expected(tiny, packed, step), evaluated(world.device, network, packed, step)
        np.testing.assert_allclose(made, wanted, rtol=0, atol=ERRORS[precision] * np.abs(wanted).max())


@pytest.mark.parametrize("precision", DTYPES)
def test_buffers_are_planes_of_the_precision_that_stay(world, make, packed, precision: str) -> None:
    network = make(precision)
    buffers = network.packed, network.output
    assert [tuple(each.shape) for each in buffers] == [SHAPE, (2, 3, 8, 12)]
    assert all(each.dtype == DTYPES[precision] and each.is_contiguous() and not each.any() for each in buffers)
    assert all(each.data_ptr() % ALIGNMENT == 0 for each in buffers)
    evaluated(world.device, network, packed, 1)
    assert all(one is other for one, other in zip((network.packed, network.output), buffers, strict=True))


def test_an_evaluation_is_one_enqueue_and_allocates_nothing(world, make) -> None:
    network, device = make(), world.device
    stream, taken = device.stream(), device.taken
    device.taken_log()
    with device.on(stream):
        network.evaluate(0)
    assert device.taken_log() == [f"{stream.name}: network"]
    assert device.taken == taken


def test_memory_of_a_run_is_the_devices_and_goes_with_the_network(world, make) -> None:
    before = world.device.taken
    network = make()
    engine = network._engine._engine
    assert world.device.taken - before >= engine.device_memory_size_v2
    del network, engine
    assert world.device.taken == before


def test_whoever_works_on_the_default_stream_is_followed(world, make, tiny, packed) -> None:
    network, device = make(), world.device
    network.packed.copy_(torch.from_numpy(packed))
    device.taken_log()
    network.evaluate(1)
    log = device.taken_log()
    own = log[0].split(" follows ")[0]
    assert log == [f"{own} follows default", f"{own}: network", f"default follows {own}"]
    device.wait(device.current())
    np.testing.assert_allclose(network.output.numpy(), expected(tiny, packed, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [5, 3, 1])
def test_other_times(world, make, tiny, packed, steps: int) -> None:
    from mrs.export.architectures.nafnet.modulation import modulation_table

    times = modulation_table(tiny.net, [97.0, 55.5, 30.0, 12.0, 3.0])[-steps:]
    network, addresses = make(), None
    addresses = network._rows.data_ptr()
    network.retime(times)
    # As many keep their addresses, which captured graphs have.
    assert (network._rows.data_ptr() == addresses) == (steps == 3)
    for step in range(steps):
        wanted = tiny.denoise(packed[:, :3] + packed[:, 3:], packed[:, 3:], [97.0, 55.5, 30.0, 12.0, 3.0][step - steps])
        np.testing.assert_allclose(evaluated(world.device, network, packed, step), wanted, rtol=0, atol=1e-4)
    with pytest.raises(BackendError, match=f"tensorrt failed at step {steps}: it is out of range"):
        network.evaluate(steps)


def test_rows_begin_where_addresses_may_begin(make) -> None:
    network = make()
    assert [row.data_ptr() % ALIGNMENT for row in network._rows] == [0] * 3


def test_networks_share_nothing(world, make, packed) -> None:
    one, other = make(), make()
    assert one._engine._context is not other._engine._context
    assert evaluated(world.device, one, packed, 0).any()
    assert not other.output.any()


def test_a_network_from_its_engine(world, backend, make, tiny, packed) -> None:
    first = make("fp16")
    again = backend.restore(first.export(), tiny.modulation, SHAPE, "fp16", CompileSettings(1))
    assert again.export() == first.export()
    assert len(world.builds) == 1
    for step in range(3):
        made = [evaluated(world.device, network, packed, step) for network in (first, again)]
        np.testing.assert_array_equal(*made)


def test_an_engine_for_a_range_serves_what_it_covers(world, backend, tiny) -> None:
    sizes = ((1, 8, 8), (1, 16, 16), (1, 32, 32))
    settings = CompileSettings(1, EngineOptions(size_range=sizes))
    engine = backend.compile(tiny.graph, tiny.modulation, (1, 6, 16, 16), "fp32", settings).export()
    for size in ((8, 8), (32, 8), (16, 28)):
        given = np.random.default_rng(1).standard_normal((1, 6, *size), np.float32)
        network = backend.restore(engine, tiny.modulation, (1, 6, *size), "fp32", CompileSettings(1))
        made = evaluated(world.device, network, given, 2)
        np.testing.assert_allclose(made, expected(tiny, given, 2), rtol=0, atol=1e-4)
    with pytest.raises(BackendError, match="it is for other sizes"):
        backend.restore(engine, tiny.modulation, (1, 6, 36, 8), "fp32", CompileSettings(1))


# Captures


def test_a_capture_keeps_the_address_of_each_step(world, make, tiny, packed) -> None:
    network, device = make(), world.device
    stream = device.stream()
    outputs = [device.memory(4 * network.output.numel()).view(torch.float32) for _ in range(3)]

    def work() -> None:
        for step, kept in enumerate(outputs):
            network.evaluate(step)
            device.copy(kept, network.output.reshape(-1))

    with device.on(stream), torch.inference_mode():
        network.evaluate(0)
        device.wait(stream)
        graph = device.capture(stream, work)
        network.packed.copy_(torch.from_numpy(packed))
        # What is set later is of no account to the graph.
        network.evaluate(1)
        graph.replay()
        device.wait(stream)
    assert graph.names.count("network") == 3
    for step, kept in enumerate(outputs):
        made = kept.view(network.output.shape).numpy()
        np.testing.assert_allclose(made, expected(tiny, packed, step), rtol=0, atol=1e-4)


def test_nothing_can_be_captured_before_the_first_enqueue(world, make) -> None:
    network, device = make(), world.device
    stream = device.stream()
    with pytest.raises(device.Failure, match="the first enqueue after a shape was set"):
        device.capture(stream, lambda: network.evaluate(0))


@pytest.mark.parametrize("what", ["an engine is loaded", "a network is compiled"])
def test_nothing_is_made_during_a_capture(world, backend, make, tiny, what: str) -> None:
    engine, device = make().export(), world.device
    calls = {
        "an engine is loaded": lambda: backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
        "a network is compiled": lambda: make(),
    }
    with pytest.raises(device.Failure, match="not permitted when stream is capturing"):
        device.capture(device.stream(), calls[what])


# Failures


@pytest.mark.parametrize(
    ("call", "lines", "error", "says"),
    [
        ("execute", ["Error Code 1: Cuda Runtime (illegal access)"], BackendError, "failed at step 1: illegal access"),
        ("execute", ["Error Code 1: Cuda Runtime (out of memory)"], DeviceMemoryError, "at step 1: the GPU's memory"),
        ("execute", [], BackendError, "tensorrt failed at step 1: it gives no reason"),
        ("address", ["no"], BackendError, "tensorrt refuses the address of modulation: no"),
    ],
)
def test_an_evaluation_that_fails(world, make, call: str, lines: list[str], error: type, says: str) -> None:
    network = make()
    world.says[call] = lines
    with pytest.raises(BackendError, match=says) as caught:
        network.evaluate(1)
    assert type(caught.value) is error
    # Another time it is not told of this one.
    world.says[call] = ["another"]
    with pytest.raises(BackendError, match="another"):
        network.evaluate(1)
    world.says.clear()
    network.evaluate(1)


@pytest.mark.parametrize(
    ("call", "line", "error", "says"),
    [
        ("runtime", "CUDA initialization failure with error: 100", BackendError, "CUDA does not start"),
        ("context", "Error Code 2: OutOfMemory (Requested size was 1 bytes.)", DeviceMemoryError, "memory"),
        ("deserialize", "Error Code 1: Serialization (bad magic)", BackendError, "cannot load its engine: bad magic"),
        ("deserialize", "Error Code 1: Cuda Runtime (out of memory)", DeviceMemoryError, "memory does not suffice"),
    ],
)
def test_an_engine_that_does_not_load(world, backend, make, tiny, call: str, line: str, error: type, says: str) -> None:
    engine = make().export()
    world.says[call] = [line]
    with pytest.raises(BackendError, match=says) as caught:
        backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_ctrl_c_while_an_engine_is_loaded_is_not_lost(
    world, backend, make, tiny, interrupted, error: type[BaseException]
) -> None:
    """TensorRT's bindings drop what is raised where it speaks."""
    engine = make().export()
    world.loads, world.during = True, interrupted(error, lambda step: True)
    with pytest.raises(error):
        backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).evaluate(0)


@pytest.mark.parametrize(
    ("what", "says", "hint"),
    [
        ("version", "the engine is of another version of TensorRT", "with this version"),
        ("gpu", "the engine is for another GPU", "on this GPU"),
    ],
)
def test_an_engine_of_another_place(world, backend, make, tiny, what: str, says: str, hint: str) -> None:
    engine = make().export()
    setattr(world, what, "9.9.9.9" if what == "version" else "NVIDIA Other 8.0")
    with pytest.raises(BackendError, match=says) as caught:
        backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("shape", "precision", "says"),
    [
        ((2, 6, 8, 8), "fp32", r"it is for \(2, 6, 8, 12\), not for \(2, 6, 8, 8\)"),
        ((1, 6, 8, 12), "fp32", "it is for .* not for"),
        (SHAPE, "fp16", "it is not for fp16"),
    ],
)
def test_an_engine_of_another_form(backend, make, tiny, shape: Any, precision: str, says: str) -> None:
    engine = make().export()
    with pytest.raises(BackendError, match=f"tensorrt cannot load its engine: {says}"):
        backend.restore(engine, tiny.modulation, shape, precision, CompileSettings(1))


@pytest.mark.parametrize("more", [4, -4])
def test_a_modulation_that_the_engine_does_not_have(backend, make, tiny, more: int) -> None:
    steps, own = tiny.modulation.shape
    network, wrong = make(), np.zeros((steps, own + more), np.float32)
    for call in (
        lambda: network.retime(wrong),
        lambda: backend.compile(tiny.graph, wrong, SHAPE, "fp32", CompileSettings(1)),
        lambda: backend.restore(network.export(), wrong, SHAPE, "fp32", CompileSettings(1)),
    ):
        with pytest.raises(BackendError, match=f"engine for {own} time-dependent values, {own + more} are given"):
            call()


def test_memory_that_does_not_suffice_is_the_devices_error(world, make) -> None:
    make()
    world.device.limit = world.device.taken + 100
    with pytest.raises(world.device.OutOfMemory):
        make()


# What a network is told of the whole picture


@pytest.fixture(scope="module")
def told() -> Net:
    return tone_network.drawn()


@pytest.mark.parametrize("ranged", [False, True], ids=["one size", "a range"])
@pytest.mark.parametrize("precision", DTYPES)
def test_a_context_reaches_the_output(world, backend, told, packed, precision: str, ranged: bool) -> None:
    options = EngineOptions(size_range=((1, 4, 4), (2, 8, 12), (2, 16, 16))) if ranged else EngineOptions()
    times = (40.0, 10.0)
    network = backend.compile(
        tone_network.graph_of(told), told.arch.modulation(told, times), SHAPE, precision, CompileSettings(1, options)
    )
    assert (tuple(network.context.shape), network.context.dtype) == ((2, tone_network.LENGTH, 1, 1), torch.float32)
    assert network.context.data_ptr() % ALIGNMENT == 0
    x, mu = torch.from_numpy(packed[:, :3] + packed[:, 3:]), torch.from_numpy(packed[:, 3:])
    found = []
    for seed in (1, 2):
        context = torch.from_numpy(np.random.default_rng(seed).standard_normal(network.context.shape, np.float32))
        network.context.copy_(context)
        found.append(evaluated(world.device, network, packed, seed - 1))
        with torch.no_grad():
            wanted = told(x, mu, times[seed - 1], context[:, :, 0, 0]).numpy()
        np.testing.assert_allclose(found[-1], wanted, rtol=0, atol=ERRORS[precision] * np.abs(wanted).max())
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_a_context_of_another_type_is_refused(world, backend, told, monkeypatch) -> None:
    kinds = world.module.ICudaEngine.get_tensor_dtype
    half = world.module.DataType.HALF
    monkeypatch.setattr(
        world.module.ICudaEngine,
        "get_tensor_dtype",
        lambda self, name: half if name == "context" else kinds(self, name),
    )
    vectors = told.arch.modulation(told, (40.0,))
    with pytest.raises(BackendError, match="tensorrt cannot load its engine: its context is not float32"):
        backend.compile(tone_network.graph_of(told), vectors, SHAPE, "fp32", CompileSettings(1))
