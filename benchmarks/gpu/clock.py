"""Time on the device, from a cold cache or a warm one, without the host's share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

# Cycles that the device waits before a sample: some 0.1 ms, and some 10 ms.
HOLD, LONGEST_HOLD = 1 << 18, 1 << 25
FEWEST = 10


@dataclass(frozen=True)
class Work:
    """What is timed: calls that put launches on the current stream.

    Attributes:
        run: the work.
        prepare: what must happen before each run and is not timed.
        cold: whether everything is evicted from the cache before each run; otherwise the work itself runs just before,
            and finds in the cache what of its arrays fits.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    cold: bool = True


class Clock:
    """Events around work that waits in the device's queue.

    The device spins while the host fills the queue, so that what is between the events is the device's work alone. A
    sample for which the host was too slow is thrown away and the device spins for longer.

    Args:
        cuda: `torch.cuda`, or a double.
        flush: launches what evicts everything from the cache.
        now: a clock in seconds.

    Attributes:
        late: samples that were kept although the host was too slow even for the longest spin.
    """

    def __init__(
        self, cuda: ModuleType, flush: Callable[[], object], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.late = 0
        self._cuda, self._flush, self._now = cuda, flush, now
        self._hold = HOLD

    def sample(self, work: Work) -> float:
        """Microseconds of one run."""
        while True:
            begin, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
            if work.cold:
                work.prepare()
                self._flush()
            else:
                work.prepare()
                work.run()
                work.prepare()
            self._cuda._sleep(self._hold)
            begin.record()
            work.run()
            end.record()
            late = begin.query()
            end.synchronize()
            if late and self._hold < LONGEST_HOLD:
                self._hold *= 2
                continue
            self.late += late
            return 1e3 * begin.elapsed_time(end)

    def compare(self, works: Mapping[str, Work], rounds: int = 50, seconds: float = 1.0) -> dict[str, list[float]]:
        """Samples of each work, taken interleaved: `rounds`, or as many, but FEWEST, as there is time for."""
        for work in works.values():
            # Compiles what is not compiled yet.
            work.prepare()
            work.run()
        self._cuda.synchronize()
        samples: dict[str, list[float]] = {name: [] for name in works}
        end = self._now() + seconds
        for turn in range(rounds):
            if turn >= FEWEST and self._now() > end:
                break
            for name, work in works.items():
                samples[name].append(self.sample(work))
        return samples
