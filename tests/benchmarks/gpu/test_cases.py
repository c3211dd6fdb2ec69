"""The launches that are measured, and the bytes that they are counted to move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

# Loaded in the tests: tests/kernels/gpu must choose triton's interpreter first.
pytest.importorskip("torch")
ELEMENTS = 3 * 256 * 256  # of one picture


@pytest.fixture(scope="module")
def cases() -> Any:
    pytest.importorskip("triton")
    from benchmarks.gpu import cases

    return cases


def everything(cases: Any) -> list[Any]:
    return [*cases.bar_cases(), *cases.rival_cases(), *cases.other_cases()]


def audits(cases: Any) -> list[Any]:
    return [case for case in everything(cases) if case.kernel == "audit"]


def test_nothing_is_measured_twice(cases: Any) -> None:
    measured = [*cases.bar_cases(), *cases.other_cases()]
    assert len(set(measured)) == len(measured)
    assert len(set(cases.rival_cases())) == len(cases.rival_cases())


def test_every_kernel_is_measured_at_every_size_in_both_layouts(cases: Any) -> None:
    measured = {case for case in everything(cases) if (case.dtype, case.picture) == ("bfloat16", "uint8")}
    measured -= set(audits(cases))
    kinds = {(case.kernel, case.row) for case in measured}
    assert {kernel for kernel, _ in kinds} == {"start", "step", "finish", "threshold"}
    assert {row for kernel, row in kinds if kernel == "step"} == {"posterior", "order 1", "order 2", "order 3"}
    assert measured == {
        cases.Case(*kind, "bfloat16", layout, side, batch)
        for kind in kinds for layout in ("planes", "last") for side in (256, 512, 1024, 2048) for batch in (1, 8)
    }  # fmt: skip


def test_an_audit_is_measured_at_every_size_in_one_layout(cases: Any) -> None:
    assert sorted(case.shape for case in audits(cases)) == sorted(
        f"{side}x{batch}" for side in (256, 512, 1024, 2048) for batch in (1, 8)
    )
    assert {case.name for case in audits(cases)} == {"audit, bfloat16 planes"}


def test_the_bars_come_first(cases: Any) -> None:
    assert {case.shape for case in cases.bar_cases()} == {"256x1", "1024x8"}
    # An audit has none, and no time of theirs.
    assert not set(audits(cases)) & set(cases.bar_cases())


def test_torch_is_compared_at_two_sizes_and_batches(cases: Any) -> None:
    found = {(case.row, case.shape) for case in cases.rival_cases()}
    assert found == {
        (row, shape) for row in ("order 2", "posterior") for shape in ("256x1", "256x8", "1024x1", "1024x8")
    }


@pytest.mark.parametrize(
    ("row", "history", "keeps", "draws"),
    [
        ("posterior", 0, False, True), ("order 1", 0, False, False), ("order 2", 1, True, False),
        ("order 3", 2, True, False),
    ],
)  # fmt: skip
def test_rows_read_keep_and_draw_what_their_names_say(
    cases: Any, row: str, history: int, keeps: bool, draws: bool
) -> None:
    weights, keep = cases.weights(cases.Case("step", row, "bfloat16", "planes", 32, 1))
    assert (weights.history, keep, weights.n != 0) == (history, keeps, draws)
    assert all((weights.cx, weights.cm, weights.cf, weights.ax, weights.am, weights.b0))


def test_every_case_is_a_launch_of_the_wide_kernels(cases: Any) -> None:
    names = set()
    for case in {replace(case, side=32, batch=1) for case in everything(cases)}:
        launches = cases.launches(case, cases.Arrays(case, "cpu"))
        network = "pixels" if case.layout == "last" else "planes"
        expected = {
            "start": ["start_pixels"],
            "finish": ["finish_pixels"],
            "step": [f"step_{network}"],
            "threshold": [f"count_{network}", "find", f"count_{network}", "choose"],
            "audit": ["audit_values"],
        }[case.kernel]
        assert [launch.name for launch in launches] == expected
        assert all(launch.constants.get("EXACT", True) for launch in launches)
        # The counts of a threshold alone have no pixels.
        groups = {launch.constants["GROUP"] for launch in launches if "GROUP" in launch.constants}
        assert groups
        assert 1 not in groups
        names.add(case.name)
    assert len(names) == 23


@pytest.mark.parametrize(
    ("case", "read", "written"),
    [
        # picture 1; mu 4, x 4, two halves of the input 2 each
        (("start", "posterior", "bfloat16", "planes"), 1, 12),
        (("start", "posterior", "float32", "last"), 1, 16),
        # x 4, mu 4, output 2; x 4, half of the input 2
        (("step", "posterior", "bfloat16", "planes"), 10, 6),
        # with channels last both halves
        (("step", "posterior", "bfloat16", "last"), 10, 8),
        # and one older prediction 4; its own 4
        (("step", "order 2", "bfloat16", "planes"), 14, 10),
        (("step", "order 2", "float32", "last"), 16, 16),
        # and two
        (("step", "order 3", "float16", "planes"), 18, 10),
        # x 4, mu 4, output 2; picture 1
        (("finish", "posterior", "bfloat16", "last"), 10, 1),
        (("finish", "order 2", "bfloat16", "planes"), 14, 1),
        # twice x 4, mu 4, output 2
        (("threshold", "order 2", "bfloat16", "planes"), 20, 0),
        # output
        (("audit", "posterior", "bfloat16", "planes"), 2, 0),
        (("audit", "posterior", "float32", "last"), 4, 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bytes_are_counted_once(cases: Any, case: tuple[str, ...], read: int, written: int) -> None:
    case = cases.Case(*case, 256, 2)
    launch = cases.launches(small := replace(case, side=32), cases.Arrays(small, "cpu"))[0]
    assert cases.bytes_of(case, launch) == (2 * ELEMENTS * read, 2 * ELEMENTS * written)


def test_float_pictures_are_four_times_the_bytes(cases: Any) -> None:
    case = cases.Case("finish", "posterior", "bfloat16", "planes", 256, 1, "float32")
    launch = cases.launches(small := replace(case, side=32), cases.Arrays(small, "cpu"))[0]
    assert cases.bytes_of(case, launch) == (ELEMENTS * 10, ELEMENTS * 4)


def test_settings_say_all_of_a_case(cases: Any) -> None:
    case = cases.Case("step", "order 2", "float16", "last", 512, 8)
    assert case.settings == {
        "kernel": "step", "row": "order 2", "dtype": "float16", "layout": "last", "side": 512, "batch": 8,
        "picture": "uint8", "channels": 3,
    }  # fmt: skip
    assert (case.name, case.shape) == ("step order 2, float16 last", "512x8")
