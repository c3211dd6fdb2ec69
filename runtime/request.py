"""A call to a restorer, without its pictures; and what ends it before it is complete."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mrs.kernels.seeds import SEEDS
from mrs.runtime.errors import CancelledError, DeadlineError, InputError
from mrs.runtime.whole_numbers import check_whole, is_number, shown


class Cancellation:
    """Cancels the calls that it was given to: those that wait for a worker, and between two tiles those that run.

    On a CPU also between two evaluations of the network; on a GPU what was launched is complete.
    """

    def __init__(self) -> None:
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel, from any thread; calls that wait notice within a tenth of a second, those that run before
        their next evaluation. Again has no effect."""
        self._cancelled = True


class Request:
    """What a call asks for besides its pictures: how long it may wait, which noise, and which tiles.

    Args:
        timeout: seconds from now to wait for a worker, 0 to take one that is free or none; None for any time.
        cancellation: that may end the call before that; None for none.
        seed: of the noise.
        tile: side of the tiles; 0 never cuts; None where memory decides.
        overlap: of neighbouring tiles; None for the default of their side.

    Raises:
        InputError: for what is of another type, a number below 0, or a seed out of range.
    """

    def __init__(
        self,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
        *,
        seed: int = 0,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        # The comparison is false for NaN.
        if timeout is not None and not (is_number(timeout) and timeout >= 0):
            raise InputError(
                f"timeout {shown(timeout)} is not a number of seconds from 0 on",
                hint="leave it out to wait for any time",
            )
        if cancellation is not None and not isinstance(cancellation, Cancellation):
            raise InputError(
                f"cancellation {shown(cancellation)} is none", hint="give an mrs.Cancellation(), or leave it out"
            )
        check_whole("seed", seed, 0, SEEDS - 1)
        if tile is not None:
            check_whole("tile", tile, 0, hint="give the side in pixels, 0 for whole pictures, or leave it out")
        if overlap is not None:
            check_whole("overlap", overlap, 0, hint="give pixels, at most half of the tile, or leave it out")
        self.timeout = timeout
        self.cancellation = cancellation
        self.seed, self.tile, self.overlap = int(seed), tile, overlap
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds left, at least 0, at most what can be waited for; None without a deadline."""
        return None if self._end is None else min(max(0.0, self._end - time.monotonic()), threading.TIMEOUT_MAX)

    def check_launch(self) -> None:
        """Refuse to launch where the call is cancelled or too late.

        Raises:
            CancelledError, DeadlineError: if so.
        """
        self.check()
        # Without any time to wait a worker that is free at once is in time.
        if self._end is not None and self.timeout and time.monotonic() > self._end:
            raise self.too_late()

    def too_late(self) -> DeadlineError:
        """What to raise where no worker came in time."""
        return DeadlineError(
            f"no worker was free within {self.timeout:g} s", hint="give more time, or load with more workers"
        )

    def between(self) -> Callable[[], None] | None:
        """What to call between two evaluations: `check`, where anything could have cancelled the call."""
        return None if self.cancellation is None else self.check

    def check(self) -> None:
        """Refuse to go on where the call is cancelled.

        Raises:
            CancelledError: if so.
        """
        if self.cancellation is not None and self.cancellation.cancelled:
            raise CancelledError("the call was cancelled before its restore was complete")
