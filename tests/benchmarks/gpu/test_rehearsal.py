"""The whole of the measurements, rehearsed on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import scripts

pytestmark = pytest.mark.slow(16)

pytest.importorskip("torch")
FIGURES = {
    "kernel_us", "kernel_q1_us", "kernel_q3_us", "samples", "launches", "read_bytes", "written_bytes", "gb_per_s",
    "percent_of_copy", "copy_us", "copy_q1_us", "copy_q3_us", "percent_of_copy_of_as_many_bytes", "empty_us",
    "above_empty_us", "above_empty_q1_us", "above_empty_q3_us",
}  # fmt: skip
WARM = {"warm_us", "warm_q1_us", "warm_q3_us", "warm_above_empty_us", "warm_above_empty_q1_us",
        "warm_above_empty_q3_us"}  # fmt: skip


@pytest.fixture(scope="module")
def rehearsal() -> dict[str, Any]:
    pytest.importorskip("triton")
    script = Path(__file__).with_name("rehearsal.py")
    done = scripts.run(script, 600, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")
    return {**json.loads(done.stdout), "stderr": done.stderr}


def test_every_case_leaves_a_row(rehearsal: dict[str, Any]) -> None:
    right = rehearsal["right"]
    assert right["wrong"] == right["left_out"] == []
    assert [case for case, _, _ in right["rows"]] == [
        "gpu copy",
        "gpu start uint8, bfloat16 last",
        "gpu step order 3, float16 planes",
        "gpu step posterior, bfloat16 last",
        "gpu threshold, bfloat16 last",
        "gpu step order 2, bfloat16 planes against torch",
        "gpu finish posterior uint8, bfloat16 planes",
        "gpu finish order 2 uint8, float32 last",
        "gpu audit, bfloat16 planes",
    ]


def test_rows_hold_settings_and_figures(rehearsal: dict[str, Any]) -> None:
    rows = {case: (settings, figures) for case, settings, figures in rehearsal["right"]["rows"]}
    copy = rows["gpu copy"][1]
    assert copy["gb_per_s"] == pytest.approx(copy["bytes"] / copy["copy_us"] / 1e3)
    settings, figures = rows["gpu step posterior, bfloat16 last"]
    assert (settings["side"], settings["batch"], settings["layout"], settings["cache"]) == (16, 2, "last", "cold")
    assert set(figures) == FIGURES
    assert (figures["samples"], figures["launches"]) == (1, 1)
    assert (figures["read_bytes"], figures["written_bytes"]) == (10 * 1536, 8 * 1536)
    assert figures["gb_per_s"] == pytest.approx(18 * 1536 / figures["kernel_us"] / 1e3)
    assert figures["percent_of_copy"] == pytest.approx(100 * figures["gb_per_s"] / copy["gb_per_s"])
    assert figures["percent_of_copy_of_as_many_bytes"] == pytest.approx(100 * figures["copy_us"] / figures["kernel_us"])
    assert figures["above_empty_us"] == pytest.approx(figures["kernel_us"] - figures["empty_us"])
    assert rows["gpu threshold, bfloat16 last"][1]["launches"] == 4
    # What is small enough is timed from a warm cache too.
    assert set(rows["gpu audit, bfloat16 planes"][1]) == FIGURES | WARM
    figures = rows["gpu audit, bfloat16 planes"][1]
    assert (figures["read_bytes"], figures["written_bytes"], figures["launches"]) == (2 * 768, 0, 1)


def test_torch_is_timed_beside_the_kernel(rehearsal: dict[str, Any]) -> None:
    rows = {case: figures for case, _, figures in rehearsal["right"]["rows"]}
    figures = rows["gpu step order 2, bfloat16 planes against torch"]
    for name in ("eager", "compiled"):
        # Through the interpreter the kernel is slower by orders of magnitude.
        assert 0 < figures[f"times_{name}_q1"] <= figures[f"times_{name}"] <= figures[f"times_{name}_q3"] < 0.5
        assert figures[f"times_{name}"] == pytest.approx(figures[f"{name}_us"] / figures["kernel_us"])


def test_without_time_the_copy_alone_is_measured_and_the_rest_named(rehearsal: dict[str, Any]) -> None:
    hasty = rehearsal["hasty"]
    assert [case for case, _, _ in hasty["rows"]] == ["gpu copy"]
    assert len(hasty["left_out"]) == 7
    assert hasty["left_out"][0] == "start uint8, bfloat16 last, 16x1"
    assert hasty["wrong"] == []


def test_each_row_is_a_line_as_it_comes(rehearsal: dict[str, Any]) -> None:
    said = rehearsal["right"]["said"]
    assert len(said) == len(rehearsal["right"]["rows"])
    assert said[0].startswith("copy: ")
    assert said[1].startswith("start uint8, bfloat16 last, 16x1: ")
    assert ", warm " in said[1]
    assert said[5].startswith("step order 2, bfloat16 planes, 16x1 against torch: ")


def test_what_was_measured_before_is_not_measured_again_and_is_reported(rehearsal: dict[str, Any]) -> None:
    resumed = rehearsal["resumed"]
    assert [case for case, _, _ in resumed["rows"]] == ["gpu audit, bfloat16 planes"]
    text = "\n".join(resumed["lines"])
    assert "start uint8, bfloat16 last" in text
    assert "step against the same in torch" in text


def test_a_wrong_kernel_has_no_figure(rehearsal: dict[str, Any]) -> None:
    wrong = rehearsal["wrong"]
    right = ["gpu copy", "gpu start uint8, bfloat16 last", "gpu audit, bfloat16 planes"]
    assert [case for case, _, _ in wrong["rows"]] == right
    assert [line.split(": ")[0] for line in wrong["wrong"]] == [
        "finish posterior uint8, bfloat16 planes", "finish order 2 uint8, float32 last"
    ]  # fmt: skip
    assert wrong["lines"][-2:] == [f"WRONG: {line}" for line in wrong["wrong"]]


def test_a_bug_is_shown_and_repeated_at_most_twice(rehearsal: dict[str, Any]) -> None:
    failing = rehearsal["failing"]
    assert failing["wrong"] == [
        "step order 3, float16 planes, 16x1: RuntimeError",
        "step posterior, bfloat16 last, 16x2: RuntimeError",
        "step order 2, bfloat16 planes, 16x1: RuntimeError",
    ]
    assert rehearsal["stderr"].count("RuntimeError: a bug") == 3
    # What comes afterwards is tried again.
    assert [case for case, _, _ in failing["rows"]] == ["gpu copy", "gpu start uint8, bfloat16 last"]
