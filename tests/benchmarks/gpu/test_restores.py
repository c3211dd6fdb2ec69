"""Checks and timings of whole restores, rehearsed on a double of the GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).resolve().parents[3]
ENGINES = ["onnxruntime-cuda", "torch", "torch-eager"]


@pytest.fixture(scope="module")
def rehearsal() -> dict[str, Any]:
    for name in ("triton", "onnxruntime"):
        pytest.importorskip(name)
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    script = Path(__file__).with_name("rehearsal_restores.py")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_wrong_where_nothing_is(rehearsal: dict[str, Any]) -> None:
    right = rehearsal["right"]
    assert right["wrong"] == right["left_out"] == []
    assert right["figures"]["graph and loop"] == {"equal": True}
    assert right["figures"]["threads"]["restores"] == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_timing_has_its_rivals_and_the_share_of_the_network(rehearsal: dict[str, Any], engine: str) -> None:
    figures = rehearsal["right"]["figures"][f"16, 2, {engine}"]
    for name in ("restore", "network", "eager_fp32", "eager_bf16"):
        assert 0 < figures[f"{name}_q1"] <= figures[f"{name}_ms"] <= figures[f"{name}_q3"]
    # Of one round.
    assert figures["outside_percent"] == pytest.approx(100 * (1 - figures["network_ms"] / figures["restore_ms"]))
    assert figures["times_eager_fp32"] == pytest.approx(figures["eager_fp32_ms"] / figures["restore_ms"])
    assert figures["replays"] == 2
    assert figures["jitter"] >= 1


def test_engines_are_compared_in_the_same_run(rehearsal: dict[str, Any]) -> None:
    figures = {name: rehearsal["right"]["figures"][f"16, 2, {name}"] for name in ENGINES}
    for one, other in [(one, other) for one in ENGINES for other in ENGINES if one != other]:
        ratio = figures[other]["restore_ms"] / figures[one]["restore_ms"]
        assert figures[one][f"times_{other}"] == pytest.approx(ratio)


def test_every_part_leaves_a_row(rehearsal: dict[str, Any]) -> None:
    rows = rehearsal["right"]["rows"]
    assert [case for case, _, _ in rows] == ["gpu threads", *["gpu restore"] * 3]
    assert [settings["backend"] for _, settings, _ in rows[1:]] == ENGINES
    for _, settings, figures in rows[1:]:
        assert settings["evaluations"] == 2
        assert settings["version"][0].isdigit()
        assert figures == rehearsal["right"]["figures"][f"16, 2, {settings['backend']}"]


def test_engines_that_are_not_installed_are_skipped_by_name(rehearsal: dict[str, Any]) -> None:
    right = rehearsal["right"]
    assert list(right["skipped"]) == ["tensorrt", "onnxruntime-tensorrt"]
    assert "skipped: tensorrt: tensorrt is not installed: " in "\n".join(right["lines"])
    assert right["skipped"]["onnxruntime-tensorrt"].startswith("this onnxruntime is built without TensorRT")


def test_an_engine_that_is_wrong_or_fails_is_told_and_not_timed(rehearsal: dict[str, Any]) -> None:
    wrong = rehearsal["wrong"]
    assert any(line.startswith("wrong: ") and "levels from float32" in line for line in wrong["wrong"])
    assert "check of broken: BackendError: no such kernel" in wrong["wrong"]
    assert not {"16, 2, wrong", "16, 2, broken"} & set(wrong["figures"])
    # The others are timed all the same.
    assert "16, 2, torch" in wrong["figures"]


def test_the_report_names_the_bars(rehearsal: dict[str, Any]) -> None:
    text = "\n".join(rehearsal["right"]["lines"])
    for bar in ("outside the network", "p99/p50", "faster than torch.compile with graphs", "one graph launch"):
        assert f"bar: {bar}" in text
    assert "faster than ONNX Runtime, torch: " in text
    assert "WRONG" not in text


def test_without_time_everything_is_left_out(rehearsal: dict[str, Any]) -> None:
    hasty = rehearsal["hasty"]
    assert hasty["figures"] == {}
    assert hasty["left_out"] == ["graph and loop", "threads", "engines", "restore 16, 2 evaluations"]
    assert sum(line.startswith("left out: ") for line in hasty["lines"]) == 4


def test_an_engine_for_which_there_is_no_time_is_left_out_alone(rehearsal: dict[str, Any]) -> None:
    short = rehearsal["short"]
    assert short["left_out"] == ["check of torch"]
    assert short["wrong"] == []
    assert {"16, 2, onnxruntime-cuda", "16, 2, torch-eager"} <= set(short["figures"])
    assert "16, 2, torch" not in short["figures"]


def test_a_loop_that_differs_from_the_graph_is_found(rehearsal: dict[str, Any]) -> None:
    wrong = rehearsal["wrong"]
    assert any("graph and loop differ for seed 3 and uint8" in line for line in wrong["wrong"])
    assert any("graph and loop differ for seed 0 and float32" in line for line in wrong["wrong"])
    assert wrong["figures"]["graph and loop"] == {"equal": False}
    assert any(line.startswith("WRONG: ode") for line in wrong["lines"])


@pytest.mark.parametrize("form", ["eager fp32", "eager bf16", "compile bf16"])
def test_the_published_loop_is_the_reference_loop(form: str) -> None:
    """Without noise both are one computation, but for the start's noise."""
    import torch

    from benchmarks.gpu.published import published
    from benchmarks.networks import random_network
    from mrs import Schedule, Solver, sample, tableau
    from mrs.export.nafnet import Architecture

    asked: list[dict[str, Any]] = []

    def compiler(network: Any, **options: Any) -> Any:
        asked.append(options)
        return network

    net = random_network(Architecture(width=4, enc_blocks=(1,), mid_blocks=0, dec_blocks=(1,)))
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
