"""Several pictures in flight at a time: while some are restored, others are read, or encoded and written."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from typing import TypeVar

from mrs.kernels.threads import Bell, Task, Threads, end, wait
from mrs.runtime.errors import MrsError
from mrs.runtime.padding import padded_size
from mrs.runtime.request import Cancellation

T = TypeVar("T")

# Of all pictures in flight together; each takes some ten bytes outside of the network, in tiles some twenty. One alone
# may have more.
PIXELS = 1 << 26


def workers_that_fit(most: int, pixels: int, sizes: Sequence[tuple[int, int]], multiple: int, tile: int | None) -> int:
    """How many workers leave each so much memory that no picture is cut into smaller tiles than one alone would cut.

    Args:
        most: of these at most, and at least 1.
        pixels: that fit the memory that the workers share.
        sizes: (height, width) of the pictures.
        multiple: what the network pads them to.
        tile: side of the tiles asked for; 0 for none; None where memory decides.
    """
    largest = max((1, *(math.prod(padded_size(*size, multiple)) for size in sizes)))
    if tile:
        largest = min(largest, tile * tile)
    return max(1, min(most, pixels // largest))


def in_order(
    items: Sequence[T],
    work: Callable[[T, Cancellation], None],
    most: int,
    cost: Callable[[T], int],
    limit: int = PIXELS,
) -> Generator[tuple[T, MrsError | None]]:
    """Do the work for every item, several at a time; close the iterator to stop before the end.

    Items are begun in their order, and given in their order with the error that their work ended with. An end before
    the last item, an interrupt or a bug among them, cancels what waits and waits for what runs.

    Args:
        items: to work on.
        work: called in a thread for each item in flight, or in this one; its `Cancellation` is for what waits.
        most: items in flight; 1 works in this thread, and begins no item before the one before it was taken.
        cost, limit: an item is begun when its cost and that of the others in flight are at most the limit, or alone.
    """
    cancellation = Cancellation()
    if most == 1:
        for item in items:
            yield item, _outcome(lambda item=item: work(item, cancellation))  # type: ignore[misc]
        return
    line: deque[tuple[T, Task[None]]] = deque()
    threads = Threads(most)
    one_ended: Bell = SimpleQueue()
    try:
        for item in items:
            while busy := [other for other, task in line if not task.done]:
                if len(busy) < most and cost(item) + sum(map(cost, busy)) <= limit:
                    break
                wait(one_ended)
            while line and line[0][1].done:
                first, task = line.popleft()
                yield first, _outcome(task.result)
            line.append((item, Task(work, item, cancellation, bell=one_ended)))
            threads.submit(line[-1][1])
        for item, task in line:
            task.wait()
            yield item, _outcome(task.result)
    finally:
        cancellation.cancel()
        end([task for _, task in line])


def _outcome(end: Callable[[], None]) -> MrsError | None:
    try:
        end()
    except MrsError as error:
        return error
    return None
