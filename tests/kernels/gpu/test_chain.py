"""A whole restore, with the rows of every method, in every type and layout: each launch as the reference's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import Row, Table
from mrs.numerics.methods import METHODS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import OUTPUTS, Solver
from mrs.numerics.tableau import tableau

pytestmark = pytest.mark.slow(42)

# Each method and order, and of one what every kind of network gives: to a kernel that is other numbers in a row.
TABLES = [(method, order, "noise") for method, facts in METHODS.items() for order in facts.orders]
TABLES += [(next(iter(METHODS)), 1, output) for output in OUTPUTS if output != "noise"]
ROWS = [
    Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, n=0.3),
    Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, m=0.3),
]


def made(method: str, order: int, output: str = "noise", **more: Any) -> Table:
    """A table, with an average or half of the noise where the method takes that; four steps reach every order."""
    facts = METHODS[method]
    if facts.option:
        more[facts.option] = 0.5
    # With s_0 = 0, so that the last row is the limit of its method where it has one.
    return tableau(Schedule(convention="ir-sde"), Solver(method, order, steps=4, **more), output)


def of(table: Table) -> dict[str, Any]:
    return {"rows": table.rows, "deviation": table.start, "clamp": table.clamp}


@pytest.mark.parametrize(("method", "order", "output"), TABLES)
def test_rows_of_every_method_in_planes(restore: Any, method: str, order: int, output: str) -> None:
    made_by = restore(**of(made(method, order, output)), channels=1, size=(7, 13), padded=(8, 16), key={"seed": 3})
    assert {made_by.launch(name).name for name in ("start", "step", "finish")} == {
        "start_planes", "step_planes", "finish_planes"
    }  # fmt: skip
    made_by.run()


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_every_method_in_pixels(restore: Any, method: str) -> None:
    table = made(method, METHODS[method].orders[-1], prediction="noise")
    made_by = restore(**of(table), size=(5, 16), padded=(6, 16), dtype="float16", channels_last=True)
    assert {made_by.launch(name).name for name in ("start", "step", "finish")} == {
        "start_pixels", "step_pixels", "finish_pixels"
    }  # fmt: skip
    made_by.run()


# Dtype, layout, picture and clamp; each pair of them at least once.
KINDS = [
    *zip(
        itertools.cycle(["float32", "float16", "bfloat16"]),
        itertools.chain([False] * 6, [True] * 6),
        itertools.cycle(["uint8", "float32"]),
        ["none", "unit", "threshold", "threshold", "none", "unit", "unit", "threshold", "none", "none", "unit",
         "threshold"],
        strict=False,
    )
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "channels_last", "picture", "clamp"), KINDS)
@pytest.mark.parametrize(("size", "padded"), [((3, 16), (4, 32)), ((7, 13), (8, 16))], ids=["wide", "awkward"])
def test_types_and_layouts(
    restore: Any, size: Any, padded: Any, dtype: str, channels_last: bool, picture: str, clamp: str
) -> None:
    wide = size[1] == 16
    made_by = restore(
        ROWS, channels=3 if wide else 2, size=size, padded=padded, dtype=dtype, channels_last=channels_last,
        picture=picture, clamp=clamp,
        key={"seed": 2**32 - 1, "image": 2**32 - 1, "origin": (2**32 - 1, 2**32 - 64)},
    )  # fmt: skip
    names = {kernel: made_by.launch(kernel).name for kernel in ("start", "step", "finish", "threshold")}
    assert names == {
        "start": "start_pixels" if wide else "start_planes",
        "step": "step_pixels" if wide and channels_last else "step_planes",
        "finish": "finish_pixels" if wide else "finish_planes",
        "threshold": "count_pixels" if wide and channels_last else "count_planes",
    }
    made_by.run()


@pytest.mark.parametrize(
    ("method", "channels_last", "clamp"),
    [("ipndm", False, "none"), ("ghvb", True, "unit"), ("sa", False, "threshold"), ("sa", True, "none")],
)
def test_a_restore_is_the_reference_loops(restore: Any, method: str, channels_last: bool, clamp: str) -> None:
    """Counted and drawn as anywhere: one seed gives one image."""
    table = made(method, METHODS[method].orders[-1], "data", clamp=clamp)
    outputs = np.random.default_rng(1).normal(0.5, 0.4, (len(table.rows), 1, 3, 4, 16)).astype(np.float32)
    made_by = restore(
        **of(table),
        size=(4, 16),
        channels_last=channels_last,
        picture="float32",
        key={"seed": 11},
        outputs=iter(outputs),
    )
    later = iter(outputs)
    expected = sample(lambda x, mu, t: next(later), made_by.given.transpose(0, 3, 1, 2), table, seed=11)
    made_by.run()
    np.testing.assert_allclose(made_by.result.cpu().numpy().transpose(0, 3, 1, 2), expected, rtol=0, atol=1e-5)
    # Not all black or white.
    assert ((expected > 0) & (expected < 1)).mean() > 0.2
