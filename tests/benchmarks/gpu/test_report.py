"""The table and the bars, from figures that are given."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
ABOUT = {
    "device": "A GPU", "driver": "580.95.05", "commit": "abc",
    "versions": {"cuda": "13.0", "torch": "2.11.0", "triton": "3.6.0"},
}  # fmt: skip
COPY = {"gb_per_s": 3000.0, "empty_us": 2.1}


@pytest.fixture(scope="module")
def report() -> Any:
    pytest.importorskip("triton")
    from benchmarks.gpu import report

    return report


def figures(percent: float = 90.0, above: float = 1.0) -> dict[str, Any]:
    return {"kernel_us": 12.34, "percent_of_copy": percent, "above_empty_us": above + 1.5, "warm_us": 10.84,
            "warm_above_empty_us": above}  # fmt: skip


def rival(eager: float, compiled: float | None) -> dict[str, Any]:
    found = {"kernel_us": 12.3, "times_eager": eager, "times_eager_q1": eager - 0.1, "times_eager_q3": eager + 0.1}
    if compiled is not None:
        found |= {"times_compiled": compiled, "times_compiled_q1": compiled, "times_compiled_q3": compiled}
    return found


def case(kernel: str = "step", shape: tuple[int, int] = (1024, 8), layout: str = "planes") -> Any:
    from benchmarks.gpu.cases import Case

    return Case(kernel, "order 2", "bfloat16", layout, *shape)


def found(**more: Any) -> Any:
    from benchmarks.gpu.kernels import Findings

    return Findings(copy=COPY, **more)


def test_nothing_measured_is_no_bar_met(report: Any) -> None:
    assert [bar.met for bar in report.bars(found())] == [None] * 5
    assert all(str(bar).endswith(": not measured") for bar in report.bars(found()))


@pytest.mark.parametrize(("percent", "met"), [(80.0, True), (79.9, False)])
def test_bandwidth_counts_from_1024_squared_and_8_pictures_on(report: Any, percent: float, met: bool) -> None:
    kernels = {
        case(): figures(percent), case(shape=(2048, 8)): figures(95), case("start"): figures(85),
        case(shape=(1024, 1)): figures(10), case(shape=(2048, 1)): figures(10), case("threshold"): figures(10),
        case("audit"): figures(10),
    }  # fmt: skip
    bar = report.bars(found(kernels=kernels))[0]
    assert (bar.met, bar.below, bar.of) == (met, int(not met), 3)
    assert bar.worst == f"{percent:.2f} % (step order 2, bfloat16 planes, 1024x8)"
    assert str(bar) == (
        f"at least 80 % of copy bandwidth from 1024x8: {'met' if met else 'missed by 1 of 3'}; worst {bar.worst}"
    )


@pytest.mark.parametrize(("above", "met"), [(1.5, True), (1.6, False)])
def test_the_start_of_a_kernel_counts_at_one_small_picture(report: Any, above: float, met: bool) -> None:
    kernels = {
        case(shape=(256, 1)): figures(above=above), case("finish", (256, 1)): figures(above=0.2),
        case("threshold", (256, 1)): figures(above=9), case(shape=(256, 8)): figures(above=9), case(): figures(above=9),
        case("audit", (256, 1)): figures(above=9),
    }  # fmt: skip
    warm, cold = report.bars(found(kernels=kernels))[1:3]
    assert (warm.met, warm.of) == (met, 2)
    assert warm.worst.startswith(f"{above:.2f} us (step order 2")
    # From a cold cache its bytes come from memory.
    assert cold.name == "at most 3 us above an empty kernel at 256x1, cold cache"
    assert (cold.met, cold.of) == (met, 2)


@pytest.mark.parametrize(
    ("rows", "met"),
    [
        ([rival(4.0, 1.3), rival(9.0, 2.0)], (True, True)),
        ([rival(3.9, 1.3), rival(9.0, 1.29)], (False, False)),
        ([rival(5.0, None), rival(5.0, None)], (True, None)),
    ],
    ids=["met", "missed", "not compiled"],
)
def test_every_comparison_with_torch_counts(report: Any, rows: Any, met: Any) -> None:
    rivals = dict(zip((case(), case(shape=(256, 1))), rows, strict=True))
    assert tuple(bar.met for bar in report.bars(found(rivals=rivals))[3:]) == met


def test_the_table_has_a_line_for_each_kernel_and_a_column_for_each_shape(report: Any) -> None:
    kernels = {
        case(shape=(256, 1)): figures(above=0.75), case(): figures(83.4), case(layout="last"): figures(91),
        case(shape=(512, 1)): figures(1),
    }  # fmt: skip
    lines = report.lines(found(kernels=kernels, rivals={case(): rival(6.0, 1.5)}), ABOUT)
    assert lines[0] == "A GPU, driver 580.95.05, CUDA 13.0, torch 2.11.0, triton 3.6.0, commit abc"
    assert lines[1] == "copy 3000 GB/s read and written; an empty kernel 2.10 us; medians, cold cache"
    assert lines[2].startswith("us, % of the copy; + us above empty/warm ")
    assert lines[2].split()[-4:] == list(report.COLUMNS)
    planes, last = lines[3:5]
    assert " ".join(planes.split()) == "step order 2, bfloat16 planes 12.34 +2.25/+0.75 - 12.3 83% -"
    assert " ".join(last.split()) == "step order 2, bfloat16 last - - 12.3 91% -"
    assert "eager 6.00 (5.90-6.10)" in lines[6]
    assert "compile 1.50 (1.50-1.50)" in lines[6]


def test_what_was_left_out_or_wrong_is_said(report: Any) -> None:
    lines = report.lines(found(left_out=["a", "b", "c", "d", "e"], wrong=["step: x is wrong"]), ABOUT)
    assert lines[-2:] == ["left out, 5: a; b; c ...", "WRONG: step: x is wrong"]
    assert report.lines(found(left_out=["a"]), ABOUT)[-1] == "left out, 1: a"


def test_a_whole_run_is_a_screen(report: Any) -> None:
    from benchmarks.gpu import cases

    kernels = dict.fromkeys([*cases.bar_cases(), *cases.other_cases()], figures(100.0) | {"kernel_us": 12345.67})
    rivals = dict.fromkeys(cases.rival_cases(), rival(100.0, 100.0) | {"kernel_us": 12345.67})
    lines = report.lines(found(kernels=kernels, rivals=rivals, left_out=[case().name] * 9), ABOUT)
    assert len(lines) <= 45
    # What follows names a case or three in full.
    assert max(map(len, lines[:-5])) <= 120
