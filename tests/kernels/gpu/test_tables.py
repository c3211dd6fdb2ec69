"""What stands in device memory: the weights as they are, which predictions are kept, where the noise begins."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from mrs.kernels.gpu import tables
from mrs.kernels.table import Row, Table
from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau

PLAIN = Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5)
ALL = Row(*(0.5 + field for field in range(11)))
Q1, Q2, Q3, MOMENTUM = PLAIN._replace(b1=0.1), PLAIN._replace(b2=0.1), PLAIN._replace(b3=0.1), PLAIN._replace(m=0.1)


def table(*rows: Row, clamp: str = "none") -> Table:
    return Table(tuple(float(n) for n in range(len(rows), -1, -1)), rows, 0.2, clamp)


def kept(*rows: Row) -> list[bool]:
    return (tables.records(table(*rows))[1:, tables.KEEP] != 0).tolist()


def test_records_are_the_rows() -> None:
    records = tables.records(table(ALL, PLAIN, clamp="unit"))
    assert (records.dtype, records.shape) == (np.float32, (3, 16))
    # The first is x_T's, of which kernels read the deviation.
    np.testing.assert_array_equal(records[0, Row._fields.index("n")], np.float32(0.2))
    np.testing.assert_array_equal(records[1, :11], np.float32(ALL))
    np.testing.assert_array_equal(records[2, :11], np.float32(PLAIN))
    np.testing.assert_array_equal(records[1:, 11], 1)
    np.testing.assert_array_equal(records[:, 13:], 0)


@pytest.mark.parametrize(("clamp", "number"), [("none", 0), ("unit", 1), ("threshold", 2)])
def test_a_clamp_has_its_number(clamp: str, number: int) -> None:
    assert (tables.records(table(PLAIN, clamp=clamp))[1:, 11] == number).all()


@pytest.mark.parametrize("clamp", [True, False, None, 1, "", "Unit", "thresh"], ids=repr)
def test_an_unknown_clamp_is_refused(clamp: Any) -> None:
    with pytest.raises(ValueError, match=r"^clamp .* is not one of none, unit, threshold$"):
        tables.records(table(PLAIN, clamp=clamp))


def test_a_prediction_is_kept_where_a_later_row_reads_it() -> None:
    assert kept(PLAIN, PLAIN, PLAIN) == [False, False, False]
    assert kept(PLAIN, Q1, PLAIN) == [True, False, False]
    assert kept(PLAIN, MOMENTUM) == [True, False]
    assert kept(PLAIN, PLAIN, Q2, PLAIN) == [True, False, False, False]
    assert kept(PLAIN, PLAIN, PLAIN, Q3) == [True, False, False, False]
    assert kept(PLAIN, PLAIN, PLAIN, PLAIN, Q3) == [False, True, False, False, False]
    # A weight that float32 cannot tell from 0 reads nothing.
    assert kept(PLAIN, PLAIN._replace(b1=1e-60, m=1e-60)) == [False, False]


@pytest.mark.parametrize("method", METHODS)
def test_every_prediction_that_a_method_reads_is_kept_till_then(method: str) -> None:
    """Slot i mod slots still holds the prediction of step i when a row reads it."""
    facts = METHODS[method]
    for order, steps in itertools.product(facts.orders, (1, 2, 5, 12)):
        options = {facts.option: 0.5} if facts.option else {}
        rows = tableau(Schedule(), Solver(method, order, steps=steps, **options)).rows
        slots, keep = table(*rows).history, kept(*rows)
        assert not keep[-1]
        there: dict[int, int] = {}
        for index, row in enumerate(rows):
            for back, weight in enumerate((row.b1 or row.m, row.b2, row.b3), 1):
                if weight:
                    assert there[(index - back) % slots] == index - back
            if keep[index]:
                there[index % slots] = index


def test_slots_reach_back_as_far_as_any_row() -> None:
    assert table().history == table(PLAIN, PLAIN).history == 0
    assert table(PLAIN, Q1).history == table(MOMENTUM).history == 1
    assert table(Q2, Q1).history == 2
    assert table(PLAIN, Q3, Q1).history == 3


def test_a_key_is_seed_image_and_corner() -> None:
    key = tables.key(2**32 - 1, image=7, origin=(5, 2**31))
    assert key.dtype == np.uint32
    assert key.tolist() == [2**32 - 1, 7, 5, 2**31]
    assert tables.key(3).tolist() == [3, 0, 0, 0]


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"seed": 2**32}, {"image": -1}, {"image": 2**32}, {"origin": (-1, 0)}, {"origin": (0, 2**32)}],
    ids=str,
)
def test_numbers_beyond_32_bits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"outside 0 to 2\^32 - 1"):
        tables.key(**{"seed": 0, **wrong})
