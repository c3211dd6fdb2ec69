"""Progress of a build, and its end before its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt

# Seconds between two lines.
QUIET = 5.0


class Progress:
    """What a build has done so far; TensorRT tells it from several threads.

    Args:
        report: called with a line now and then.

    Attributes:
        cancelled: set to let the build end at its next step.
        failure: what `report` raised, which ends the build too.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self.cancelled = False
        self.failure: Exception | None = None
        self._lock = threading.Lock()
        self._phases: dict[str, int] = {}
        self._last = time.monotonic()

    def begin(self, phase: str, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[phase] = steps

    def done(self, phase: str, step: int) -> bool:
        """A step of a phase is done; whether to go on."""
        with self._lock:
            now = time.monotonic()
            if now - self._last >= QUIET and not self.cancelled:
                self._last = now
                steps = self._phases.get(phase, 0)
                self._tell(f"tensorrt: {phase}" + (f", {step + 1} of {steps}" if steps > 1 else ""))
        return not self.cancelled

    def end(self, phase: str) -> None:
        """A phase has ended."""
        with self._lock:
            self._phases.pop(phase, None)

    def _tell(self, line: str) -> None:
        try:
            self._report(line)
        except Exception as error:  # noqa: BLE001 (TensorRT cannot be told of it; it is raised when the build has ended)
            self.failure = error
            self.cancelled = True


def monitor(progress: Progress) -> trt.IProgressMonitor:
    """What tells `progress`. It must live as long as the build."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.begin(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.done(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.end(phase_name)

    return Monitor()
