"""Checks and timings of whole restores, rehearsed on a double of the GPU."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests import scripts

pytestmark = pytest.mark.slow(9)

pytest.importorskip("torch")
ENGINES = ["onnxruntime-cuda", "torch", "torch-eager"]
RIVALS = ["eager fp32", "eager bf16", "compile bf16", "torch-eager"]
FORMS = ["eager_fp32", "eager_bf16", "compile_bf16"]


@pytest.fixture(scope="module")
def rehearsal() -> dict[str, Any]:
    for name in ("triton", "onnxruntime"):
        pytest.importorskip(name)
    script = Path(__file__).with_name("rehearsal_restores.py")
    done = scripts.run(script, 600, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def case_of(engine: str) -> str:
    return f"16, 2 evaluations, {engine}"


def test_nothing_is_wrong_where_nothing_is(rehearsal: dict[str, Any]) -> None:
    right = rehearsal["right"]
    assert right["wrong"] == right["left_out"] == []
    assert "WRONG" not in "\n".join(right["lines"])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_timing_has_its_rivals_and_the_share_of_the_network(rehearsal: dict[str, Any], engine: str) -> None:
    figures = rehearsal["right"]["figures"][case_of(engine)]
    for name in ("restore", "network", *FORMS):
        assert 0 < figures[f"{name}_q1"] <= figures[f"{name}_ms"] <= figures[f"{name}_q3"]
    # Of one round.
    assert figures["outside_percent"] == pytest.approx(100 * (1 - figures["network_ms"] / figures["restore_ms"]))
    for name in FORMS:
        assert figures[f"times_{name}"] == pytest.approx(figures[f"{name}_ms"] / figures[f"beside_{name}_ms"])
    assert figures["times_torch-eager"] > 0
    assert figures["replays"] == 2
    assert figures["jitter"] >= 1


def test_every_figure_is_in_a_row_as_soon_as_it_is_known(rehearsal: dict[str, Any]) -> None:
    rows, said = rehearsal["right"]["rows"], rehearsal["right"]["said"]
    each = ["gpu restore", *(f"gpu restore against {rival}" for rival in RIVALS), "gpu replays", "gpu launches"]
    assert [case for case, _, _ in rows] == each * 3
    assert [settings["engine"] for _, settings, _ in rows[:: len(each)]] == ENGINES
    for _, settings, figures in rows:
        assert (settings["side"], settings["evaluations"]) == (16, 2)
        assert settings["version"][0].isdigit()
        assert figures.items() <= rehearsal["right"]["figures"][case_of(settings["engine"])].items()
    # And a line for each, without quartiles.
    assert len(said) == len(rows)
    assert said[0].startswith(f"{case_of(ENGINES[0])}: restore ")
    assert not any("q1" in line for line in said)


def test_an_engine_that_is_wrong_or_fails_is_told_and_not_timed(rehearsal: dict[str, Any]) -> None:
    wrong = rehearsal["wrong"]
    assert (
        sum(line.startswith(f"{case_of('wrong')}: ") and "levels from float32" in line for line in wrong["wrong"]) == 2
    )
    assert f"{case_of('broken')}: loading: BackendError: no such kernel" in wrong["wrong"]
    # Nor is it a rival of others, which are timed all the same.
    assert {settings["engine"] for _, settings, _ in wrong["rows"]} == {"torch"}
    assert "gpu restore against wrong" not in {case for case, _, _ in wrong["rows"]}
    assert "gpu restore against eager fp32" in {case for case, _, _ in wrong["rows"]}
    assert sum(line.startswith("WRONG: ") for line in wrong["lines"]) == 3


def test_the_report_names_the_bars(rehearsal: dict[str, Any]) -> None:
    text = "\n".join(rehearsal["right"]["lines"])
    for bar in ("outside the network", "p99/p50", "faster than torch.compile with graphs", "one graph launch"):
        assert f"bar: {bar}" in text


@pytest.mark.parametrize(
    ("events", "figures", "wrong", "left_out"),
    [
        ({"cudaGraphLaunch": 1, "cudaStreamSynchronize": 1, "aten::copy_": 2}, (1, 0), 0, 0),
        ({"cudaGraphLaunch_v10000": 1, "cuLaunchKernelEx": 2, "cudaMemcpyAsync": 1}, (1, 3), 1, 0),
        ({"cudaDeviceSynchronize": 1}, (0, 0), 1, 0),
        # Without CUPTI torch's profiler goes on, and shows what torch itself calls.
        ({"aten::copy_": 2}, None, 0, 1),
    ],
)
def test_a_profile_without_calls_of_cuda_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: dict[str, int], figures: Any, wrong: int, left_out: int
) -> None:
    pytest.importorskip("triton")
    import torch

    from benchmarks.gpu.budget import Budget
    from benchmarks.gpu.kept import Kept
    from benchmarks.gpu.restores import Bench, Case

    class Profile:
        def __init__(self, activities: Any) -> None:
            pass

        def __enter__(self) -> Profile:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def key_averages(self) -> list[Any]:
            return [SimpleNamespace(key=key, count=count) for key, count in events.items()]

    monkeypatch.setattr(torch.profiler, "profile", Profile)
    bench = Bench(Budget(100.0), Kept(tmp_path / "rows.jsonl", {}))
    found = bench._launches(Case(16, 2, "torch"), {"restore": lambda: None})
    graphs, others = figures or (None, None)
    assert found == ({} if figures is None else {"graph_launches": graphs, "other_launches": others})
    assert (len(bench.findings.wrong), len(bench.findings.left_out)) == (wrong, left_out)


def test_without_time_everything_is_left_out(rehearsal: dict[str, Any]) -> None:
    hasty = rehearsal["hasty"]
    assert hasty["rows"] == []
    assert hasty["left_out"] == [case_of("torch")]
    assert hasty["lines"] == [f"left out: {case_of('torch')}"]


def test_what_there_is_no_time_to_compile_is_left_out_alone(rehearsal: dict[str, Any]) -> None:
    short = rehearsal["short"]
    assert short["left_out"] == [f"{case_of('torch-eager')}: restore against compile bf16"]
    assert short["wrong"] == []
    assert len(short["rows"]) == 5
    assert rehearsal["unloaded"]["left_out"] == [f"{case_of('torch')}: loading"]
    assert rehearsal["unloaded"]["rows"] == []


def test_what_was_measured_before_is_not_measured_again_and_is_reported(rehearsal: dict[str, Any]) -> None:
    resumed = rehearsal["resumed"]
    assert [case for case, _, _ in resumed["rows"]] == ["gpu restore against eager fp32"]
    assert set(resumed["figures"][case_of("torch")]) >= {"restore_ms", "times_eager_fp32", "times_compile_bf16"}
    assert not any("not measured" in line for line in resumed["lines"])


@pytest.mark.parametrize("form", ["eager fp32", "eager bf16", "compile bf16"])
def test_the_published_loop_is_the_reference_loop(form: str) -> None:
    """Without noise both are one computation, but for the start's noise."""
    import torch

    from benchmarks.gpu.published import published
    from benchmarks.networks import random_network
    from mrs import Schedule, Solver, sample, tableau
    from mrs.export.architectures.nafnet import NAFNet

    asked: list[dict[str, Any]] = []

    def compiler(network: Any, **options: Any) -> Any:
        asked.append(options)
        return network

    net = random_network(NAFNet(width=4, enc_blocks=(1,), mid_blocks=0, dec_blocks=(1,)))
    table = tableau(Schedule(), Solver("ode", 2, steps=3))
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8))
    restored = published(net, table, form, compiler)
    torch.manual_seed(1)
    ours = restored(picture).numpy()
    torch.manual_seed(1)
    mu = picture.permute(0, 3, 1, 2).float() / 255
    noise = torch.randn_like(mu).numpy()

    def denoiser(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(*(torch.from_numpy(np.float32(value)) for value in (x, mu)), t).numpy()

    expected = sample(denoiser, mu.numpy(), table, init_noise=noise).transpose(0, 2, 3, 1)
    difference = np.abs(ours - 255.0 * expected)
    # A network with random weights multiplies what bfloat16 rounds off.
    assert (difference.max() <= 0.51) if form == "eager fp32" else (0 < difference.mean() < 1)
    assert bool(asked) == (form == "compile bf16")
    assert not asked or asked[0]["mode"] == "reduce-overhead"
