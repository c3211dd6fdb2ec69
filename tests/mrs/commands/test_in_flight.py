"""Several pictures in flight: order, bounds, failures and early ends."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import islice

import pytest

from mrs.commands.in_flight import in_order, workers_that_fit
from mrs.runtime.errors import InputError
from mrs.runtime.request import Cancellation

# Far longer than any of this takes: only a test that fails waits for it.
LONG = 20.0


def free(item: object) -> int:
    return 0


@pytest.mark.parametrize(
    ("most", "pixels", "sizes", "tile", "workers"),
    [
        (2, 2000, [(20, 40)], None, 2),
        (2, 1599, [(20, 40)], None, 1),
        (4, 2400, [(8, 8), (20, 40), (8, 8)], None, 3),
        (2, 1600, [(17, 37)], None, 2),  # as the network pads it
        (2, 1599, [(17, 37)], None, 1),
        (2, 700, [(20, 40)], None, 1),  # does not fit whole even alone
        (2, 700, [(20, 40)], 0, 1),
        (2, 700, [(20, 40)], 16, 2),
        (2, 511, [(20, 40)], 16, 1),
        (2, 128, [(8, 8)], 16, 2),  # smaller than a tile
        (3, 100, [], None, 3),
        (3, 100, [(0, 0)], None, 3),  # a file whose header tells nothing
    ],
)
def test_workers_leave_each_other_the_memory_that_one_needs(most, pixels, sizes, tile, workers) -> None:
    assert workers_that_fit(most, pixels, sizes, 4, tile) == workers


@pytest.mark.parametrize("most", [1, 2, 5])
def test_results_come_in_order_with_their_errors(most) -> None:
    later = [threading.Event() for _ in range(4)]

    def work(item: int, cancellation: Cancellation) -> None:
        # With several in flight the first of two ends last.
        if most > 1 and item % 2 == 0:
            assert later[item + 1].wait(LONG)
        later[item].set()
        if item != 2:
            raise InputError(f"bad {item}")

    found = [(item, error and error.message) for item, error in in_order(range(4), work, most, free)]
    assert found == [(0, "bad 0"), (1, "bad 1"), (2, None), (3, "bad 3")]


def test_no_more_are_in_flight_than_asked_for_and_no_fewer() -> None:
    lock, running, seen = threading.Lock(), set(), []
    together = threading.Barrier(3)

    def work(item: int, cancellation: Cancellation) -> None:
        with lock:
            running.add(item)
            seen.append(len(running))
        together.wait(LONG)
        with lock:
            running.discard(item)

    assert len(list(in_order(range(9), work, 3, free))) == 9
    assert max(seen) == 3


def test_large_items_are_in_flight_alone() -> None:
    lock, running, costs = threading.Lock(), [], []

    def work(item: int, cancellation: Cancellation) -> None:
        with lock:
            running.append(item)
            costs.append(sum(running))
        threading.Event().wait(0.01)
        with lock:
            running.remove(item)

    items = [1, 2, 90, 3, 10, 4, 5, 95]
    assert [item for item, _ in in_order(items, work, 4, cost=lambda item: item, limit=10)] == items
    # Either one alone, or several within the limit.
    assert all(cost in (90, 95) or cost <= 10 for cost in costs)
    assert {90, 95} <= set(costs)


def test_one_in_flight_is_in_this_thread_and_does_not_run_ahead() -> None:
    done = []

    def work(item: int, cancellation: Cancellation) -> None:
        assert threading.current_thread() is threading.main_thread()
        done.append(item)

    with closing(in_order(range(5), work, 1, free)) as results:
        assert [item for item, _ in islice(results, 2)] == done == [0, 1]


@pytest.mark.parametrize("how", ["closed", "bug"])
def test_an_early_end_cancels_what_waits_and_leaves_nothing_running(how) -> None:
    begun, ended = [], []
    second = threading.Event()

    def work(item: int, cancellation: Cancellation) -> None:
        begun.append(item)
        if item == 0:
            # Until the other one runs.
            assert second.wait(LONG)
            if how == "bug":
                raise ZeroDivisionError
            return
        second.set()
        end = time.monotonic() + LONG
        while not cancellation.cancelled:
            assert time.monotonic() < end
            time.sleep(0.001)
        ended.append(item)

    def take() -> None:
        with closing(in_order(range(100), work, 2, free)) as results:
            assert next(results) == (0, None)

    if how == "bug":
        with pytest.raises(ZeroDivisionError):
            take()
    else:
        take()
    assert sorted(begun[1:]) == sorted(ended)
    assert len(begun) <= 4
