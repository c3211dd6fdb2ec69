"""The rivals in torch: each restores what the plan does, is judged, and fails in one line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mrs
from mrs.benchmarking.rivals import float32_reference, judge
from mrs.benchmarking.rivals.in_torch import contenders, network
from mrs.benchmarking.rivals.rival import Companions
from mrs.export import checkpoint
from mrs.runtime.errors import BackendError, CheckpointError, PlanError
from mrs.runtime.plan import read_plan
from mrs.runtime.system import machine

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(20)]


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What torch.compile was given: traced and guarded as always, and then run as it is."""
    made: list[Any] = []

    def compiler(graph: Any, examples: Any) -> Callable[..., Any]:
        made.append(graph)
        forward: Callable[..., Any] = graph.forward
        return forward

    monkeypatch.setattr(contenders, "COMPILER", compiler)
    yield made
    torch._dynamo.reset()


def test_eager_restores_what_the_plan_does(opened, plan, pictures) -> None:
    with opened("eager") as (rival,):
        result = rival.run(pictures)
        assert (rival.backend, rival.precision, rival.evaluations, rival.rounds) == ("torch", "fp32", 2, None)
        assert rival.own_parity is None
        assert rival.label == f"MR Sampler's loop in torch {torch.__version__}, eager, float32"
    with mrs.load(plan, threads=1) as restorer:
        expected = restorer.restore(pictures).astype(int)
    assert np.abs(result - expected).max() <= 1
    parity = judge(rival, result, float32_reference(read_plan(plan), pictures, 1))
    assert parity.passes
    assert not judge(rival, 255 - result, expected.astype(np.uint8)).passes


def test_threads_are_as_before(opened, golden, tmp_path) -> None:
    with opened("eager", threads=2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
    with pytest.raises(CheckpointError), opened("eager", threads=2, checkpoint=tmp_path / "none.pth"):
        pass
    assert torch.get_num_threads() == 1


def test_other_weights_are_refused(opened, golden, tmp_path) -> None:
    """Of the same network, and a little other."""
    net = mrs.load_checkpoint(golden.weights)
    with torch.no_grad():
        net.ending.weight.mul_(1.01)
    checkpoint.save(tmp_path / "other.safetensors", net.state_dict(), {})
    with pytest.raises(CheckpointError, match=r"other weights than the plan \(give the .*nafnet_tiny.pth\)"), opened(
        "eager", checkpoint=tmp_path / "other.safetensors"
    ):  # fmt: skip
        pass


def test_a_plan_that_does_not_say_its_process(plan, golden) -> None:
    read = read_plan(plan)
    for name in ("schedule", "output", "network"):
        less = replace(read, manifest={key: value for key, value in read.manifest.items() if key != name})
        with pytest.raises(PlanError, match="does not say its process"):
            network.read_network(less, golden.weights, Companions(), 1)


def test_compile_drives_the_same_loop(opened, pictures, compilations, monkeypatch) -> None:
    monkeypatch.setattr(machine, "instructions", lambda: ("avx2",))
    with opened("eager", "compile") as (eager, compiled):
        # All times, and both sizes of the history, by one.
        assert len(compilations) == 1
        result = compiled.run(pictures)
        assert len(compilations) == 1
        assert np.abs(result - eager.run(pictures).astype(int)).max() <= 1
        assert compiled.precision == "fp32"
        assert compiled.label.endswith("max-autotune, channels last, float32, for there is no bfloat16 here")


def test_compile_takes_bfloat16_where_it_is_native(opened, pictures, compilations, monkeypatch) -> None:
    monkeypatch.setattr(machine, "instructions", lambda: ("avx2", "avx512_bf16"))
    with opened("eager", "compile") as (eager, compiled):
        types = {value.dtype for value in compilations[0].state_dict().values()}
        types |= {node.meta["example_value"].dtype for node in compilations[0].graph.nodes if "x_" in node.name}
        assert torch.bfloat16 in types
        difference = np.abs(compiled.run(pictures) - eager.run(pictures).astype(int))
        assert difference.max() > 0
        assert difference.mean() < 8
        assert compiled.precision == "bf16"
        assert compiled.label.endswith("channels last, bfloat16")


def test_max_autotune_is_asked_of_torch(plan, golden, monkeypatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch, "compile", lambda net, **options: asked.update(options) or net)
    published = network.read_network(read_plan(plan), golden.weights, Companions(), 1)
    contenders.compiled(published, "fp32")
    assert asked == {"dynamic": False, "backend": "inductor", "mode": "max-autotune"}


def test_the_time_to_compile_is_said(opened, monkeypatch) -> None:
    """And it is one of compiling, not of reading what was compiled before."""
    caches, kept = [], os.environ.get("TORCHINDUCTOR_CACHE_DIR")

    def slowly(published: Any, precision: str) -> Any:
        time.sleep(0.2)

        def evaluate(*given: Any) -> Any:
            caches.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
            return contenders.eager(published)(*given)

        return evaluate

    monkeypatch.setattr(contenders, "compiled", slowly)
    with opened("compile") as (rival,):
        assert rival.setup_seconds > 0.2
    assert kept not in caches
    assert not Path(caches[0]).exists()
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == kept


def test_a_compiler_that_fails_is_one_line(opened, monkeypatch) -> None:
    def fail(graph: Any, examples: Any) -> Any:
        raise OSError("no compiler\nat all")

    monkeypatch.setattr(contenders, "COMPILER", fail)
    notes: list[str] = []
    with opened("compile", "eager", note=notes.append) as found:
        assert [rival.name for rival in found] == ["eager"]
    assert notes == ["rival compile left out: torch.compile for 21x27 failed: OSError: no compiler"]
    torch._dynamo.reset()


def test_an_interrupt_is_none_of_a_rival_s_failures(opened, monkeypatch) -> None:
    def interrupted(*arguments: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(contenders, "compiled", interrupted)
    with pytest.raises(KeyboardInterrupt), opened("compile", "eager"):
        pass


def test_memory_that_ends_in_a_round_is_one_line(opened, pictures, monkeypatch) -> None:
    with opened("eager") as (rival,):
        monkeypatch.setattr(contenders.loop, "solve", _out_of_memory)
        with pytest.raises(BackendError, match=r"^torch failed: OutOfMemoryError: CUDA out of memory$"):
            rival.run(pictures)


def _out_of_memory(*arguments: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_published_sampler_has_a_hundred_evaluations(opened, pictures, monkeypatch) -> None:
    evaluated: list[float] = []
    real = contenders.eager

    def counted(published: Any) -> Any:
        evaluate = real(published)
        return lambda x, mu, at, *told: (evaluated.append(float(at)), evaluate(x, mu, at, *told))[1]

    monkeypatch.setattr(contenders, "eager", counted)
    with opened("published") as (rival,):
        assert (rival.evaluations, rival.rounds) == (100, 2)
        assert "100 evaluations" in rival.label
        evaluated.clear()
        assert rival.run(pictures).shape == pictures.shape
        assert evaluated == list(range(100, 0, -1))
        parity = rival.own_parity
        assert parity.passes
        assert parity.reference == "our runtime in float32 with its table and noise, at 32x32"


def test_a_published_sampler_that_computes_something_else_does_not_pass(opened, monkeypatch) -> None:
    real = contenders.eager
    monkeypatch.setattr(
        contenders, "eager", lambda published: lambda *given: 1.2 * real(published)(*given)
    )  # fmt: skip
    with opened("published") as (rival,):
        assert not rival.own_parity.passes


def test_a_plan_for_a_gpu_that_torch_does_not_see(plan, golden) -> None:
    read = read_plan(plan)
    on_gpu = replace(read, manifest={**read.manifest, "backend": "torch"})
    published = network.read_network(on_gpu, golden.weights, Companions(), 1)
    assert published.device == "cuda"
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for name in ("eager", "compile", "published"):
        with pytest.raises(BackendError, match="the plan is for a GPU, and torch sees none here"):
            contenders.contender(name, on_gpu, published, (1, 8, 8), 1)


def test_results_of_torch_s_own_graphs_are_copied(plan, golden, compilations, monkeypatch) -> None:
    """On a GPU the next replay writes them again; torch is told of each call. Here networks stay where they are."""
    marks: list[int] = []
    monkeypatch.setattr(network.PublishedNetwork, "_placed", lambda self, module: module)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))
    memory = torch.zeros(1, 3, 8, 8)
    monkeypatch.setattr(torch, "compile", lambda net, **options: lambda *given: memory)
    published = network.read_network(read_plan(plan), golden.weights, Companions(), 1)
    x, at = torch.rand(1, 3, 8, 8), torch.tensor([5.0])
    for device, copied in (("cpu", False), ("cuda", True)):
        evaluate = contenders.compiled(replace(published, device=device), "fp32")
        assert (evaluate(x, x, at).data_ptr() != memory.data_ptr()) == copied
        assert len(marks) == copied
