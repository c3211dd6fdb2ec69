"""The same runtime on a real GPU: what its double cannot show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.kernels.table import Table
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import BackendError, DeviceMemoryError, InputError
from tests import scripts

pytestmark = pytest.mark.gpu
SIDE = 64
ARCH = NAFNet(width=8, enc_blocks=(1, 1), mid_blocks=1, dec_blocks=(1, 1))


@pytest.fixture(autouse=True)
def _on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")


def table_of(method: str = "sde", order: int = 2, steps: int = 4) -> Table:
    return tableau(Schedule(), Solver(method, order, steps=steps))


@pytest.fixture(scope="module")
def net() -> ConditionalNAFNet:
    from benchmarks.networks import random_network

    return random_network(ARCH)


@pytest.fixture
def load(net: ConditionalNAFNet) -> Iterator[Callable[..., Any]]:
    """A restorer of the network."""
    from benchmarks.gpu.restores import plan_of
    from mrs.runtime.session import Restorer

    loaded: list[Any] = []

    def make(table: Table | None = None, backend: str = "torch-eager", precision: str = "fp32", **more: Any) -> Any:
        plan = plan_of(net, table or table_of(), SIDE, backend, precision)
        loaded.append(Restorer(plan, **more))
        return loaded[-1]

    yield make
    for restorer in loaded:
        restorer.close()


@pytest.fixture(scope="module")
def picture() -> Any:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def reference(net: ConditionalNAFNet, table: Table, picture: Any, seed: int) -> Any:
    """The reference loop on the CPU, in [0, 1]."""
    from mrs.numerics.reference import sample

    def denoiser(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(*(torch.from_numpy(np.float32(value)) for value in (x, mu)), t).numpy()

    mu = picture.transpose(2, 0, 1)[None] / np.float32(255)
    return sample(denoiser, mu, table, seed=seed)[0].transpose(1, 2, 0)


def check_told(backend: str) -> None:
    """A network that is told of the picture within the graph."""
    from mrs.runtime.cuda.conditioner import CudaConditioner
    from mrs.runtime.session import Restorer
    from tests import tone_network

    net, table = tone_network.drawn(), tableau(Schedule(T=50, max_sigma=30.0), Solver(steps=4), "data")
    given = np.random.default_rng(5).random((50, 37, 3), np.float32)
    with Restorer(tone_network.plan_of(net, table, backend, (1, 50, 38)), threads=1) as restorer:
        assert isinstance(restorer._workers[0].condition, CudaConditioner)
        for picture in (given, given * np.float32(0.3)):
            expected = tone_network.by_reference(net, table, picture, tone_network.context_of(net, picture), seed=3)
            restored = restorer.restore(picture, 3)
            on_device = restorer.restore(torch.from_numpy(picture).cuda(), 3)
            np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-4)
            np.testing.assert_array_equal(on_device.cpu().numpy(), restored)


@pytest.mark.parametrize("method", ["ode", "sde", "posterior", "told by torch-eager", "told by torch", "latents"])
def test_one_seed_gives_one_picture_on_both_devices(load, net, picture, tmp_path: Path, method: str) -> None:
    if method.startswith("told by "):
        check_told(method.removeprefix("told by "))
        return
    if method == "latents":
        check_latents(tmp_path)
        return
    table = table_of(method, 1 if method == "posterior" else 2)
    for seed in (0, 7):
        ours = load(table).restore(picture, seed=seed)
        assert np.abs(ours - 255.0 * reference(net, table, picture, seed)).max() <= 1.0


def check_latents(tmp_path: Path) -> None:
    from mrs.runtime.session import Restorer
    from tests.runtime.latent_plans import latent_plan

    plan, given = latent_plan(tmp_path, "torch-eager"), np.random.default_rng(5).random((2, 50, 37, 3), np.float32)
    with Restorer(plan, backend="onnxruntime", threads=1) as cpu:
        expected = cpu.restore(given, 3)
    for graphs in (True, False):
        with Restorer(plan, graphs=graphs) as restorer:
            restored = restorer.restore(given, 3)
            np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-4)
            on_device = restorer.restore(torch.from_numpy(given).cuda(), 3)
            np.testing.assert_array_equal(on_device.cpu().numpy(), restored)


def check_graph_and_loop(load: Callable[..., Any], pictures: list[Any], **options: Any) -> None:
    graph, loop = (load(graphs=graphs, **options) for graphs in (True, False))
    first = graph.restore(pictures[0], seed=1)
    for given in pictures:
        for seed in (0, 1):
            np.testing.assert_array_equal(graph.restore(given, seed=seed), loop.restore(given, seed=seed))
    # Whatever came between.
    np.testing.assert_array_equal(graph.restore(pictures[0], seed=1), first)


@pytest.mark.parametrize("method", ["ode", "sde", "dpm++"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_graph_and_loop_give_the_same_bytes(load, picture, method: str, precision: str) -> None:
    pictures = [picture, (picture / 255).astype(np.float32), picture[:50, :33], np.stack([picture] * 3)]
    check_graph_and_loop(load, pictures, table=table_of(method), precision=precision)


# What is compiled takes long: two tests, which `make gpu` runs side by side.


def test_compiled_graph_and_loop_give_the_same_bytes_in_every_precision(load, picture) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        check_graph_and_loop(load, [picture, (picture / 255).astype(np.float32)], backend="torch", precision=precision)


def test_compiled_graph_and_loop_give_the_same_bytes_at_every_size(load, picture) -> None:
    check_graph_and_loop(load, [picture[:50, :33], np.stack([picture] * 3)], backend="torch", precision="bf16")


def test_half_precision_is_near(load, picture) -> None:
    table = table_of("ode")
    exact = load(table).restore(picture).astype(float)
    for backend in ("torch", "torch-eager"):
        for precision in ("bf16", "fp16"):
            near = load(table, backend, precision).restore(picture)
            assert np.abs(near - exact).mean() < 4, (backend, precision)


def test_tensors_go_in_and_out(load, picture) -> None:
    restorer = load()
    expected = restorer.restore(picture, seed=3)
    given = torch.from_numpy(picture).cuda()
    own = torch.cuda.Stream()
    with torch.cuda.stream(own):
        # Late work of the caller's stream is waited for.
        torch.cuda._sleep(10_000_000)
        late = given.clone()
        made = restorer.restore(late, seed=3)
        # And what the stream is given next sees the result.
        after = made.clone()
    own.synchronize()
    np.testing.assert_array_equal(after.cpu().numpy(), expected)
    out = torch.zeros_like(given)
    for _ in range(2):
        restorer.restore_into(given, out, 3, bound=True)
        np.testing.assert_array_equal(out.cpu().numpy(), expected)
        out.zero_()
    with restorer.lend(given, 3) as lent:
        np.testing.assert_array_equal(lent.cpu().numpy(), expected)
    restorer.synchronize()
    check_that_captures_of_the_caller_go_on(restorer, given)
    np.testing.assert_array_equal(restorer.restore(picture, seed=3), expected)


def check_that_captures_of_the_caller_go_on(restorer: Any, given: torch.Tensor) -> None:
    out, graph = torch.zeros_like(given), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out.copy_(given)
        with pytest.raises(InputError, match="captures a CUDA graph"):
            restorer.restore(given)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out, given)


def test_threads_get_what_one_gets(load, picture) -> None:
    restorer = load(workers=2)
    expected = [restorer.restore(picture, seed=seed) for seed in range(4)]
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            wrong.extend(
                seed for _ in range(30) if not np.array_equal(restorer.restore(picture, seed=seed), expected[seed])
            )
        except Exception as error:  # noqa: BLE001  # a thread's failure is the test's
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    check_that_streams_are_shared_with_nobody(restorer)


def check_that_streams_are_shared_with_nobody(restorer: Any) -> None:
    # torch deals out 32: these are all of them twice.
    theirs = {torch.cuda.Stream().cuda_stream for _ in range(64)}
    with restorer.chain((1, SIDE, SIDE)) as chain:
        assert chain.stream.cuda_stream not in theirs | {0}
        # What lies on it keeps nobody waiting on the default stream.
        with torch.cuda.stream(chain.stream):
            torch.cuda._sleep(200_000_000)
        torch.zeros(1, device="cuda").add_(1)
        torch.cuda.default_stream().synchronize()
        assert not chain.stream.query()


def test_replays_take_no_memory(load, picture) -> None:
    restorer = load()
    restorer.restore(picture)
    before = torch.cuda.memory_allocated()
    for seed in range(50):
        restorer.restore(picture, seed=seed)
    assert torch.cuda.memory_allocated() == before


def test_a_capture_that_fails_leaves_the_device_as_it_was() -> None:
    """In a process of its own: where it does not, what comes afterwards would fail without a fault."""
    script = Path(__file__).with_name("failed_capture.py")
    scripts.run(script, 80)


def test_infinities_name_their_step(load, picture) -> None:
    restorer = load()
    with restorer.chain((1, SIDE, SIDE)) as chain:
        chain.network._rows[2].fill_(float("nan"))
    with pytest.raises(BackendError, match=r"infinities or NaN at step 2 of 4 .*fp32"):
        restorer.restore(picture)
    tensor = torch.from_numpy(picture).cuda()
    restorer.restore(tensor)
    with pytest.raises(BackendError, match="at step 2 of 4"):
        restorer.synchronize()


def test_pictures_that_do_not_fit_are_restored_in_tiles(load, caplog: pytest.LogCaptureFixture) -> None:
    restorer = load()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (300 << 20)) / total)
    try:
        large = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), np.uint8)
        with pytest.raises(DeviceMemoryError):
            restorer.restore(large, tile=0)
        assert restorer.restore(large).shape == large.shape
        assert "restoring in tiles" in caplog.text
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
