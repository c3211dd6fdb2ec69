"""The rivals of `--against`, judged and ready to be timed in the rounds of the plan's own case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs.benchmarking.results import Case, Parity
from mrs.benchmarking.rivals import Rival, float32_reference, judge, rivals
from mrs.benchmarking.settings import Size, Wanted
from mrs.benchmarking.works import Entrant, picture_of
from mrs.building.source import WEIGHTS
from mrs.runtime.enlarging import enlarged_levels
from mrs.runtime.errors import MrsError
from mrs.runtime.session import Restorer

Note = Callable[[str], None]


@dataclass
class Judge:
    """What judges whole restores: the plan's own in float32, made when the first one is to be judged.

    Attributes:
        restorer: the plan's.
        pictures: (N, H, W, C), enlarged where the plan enlarges: what a rival is given.
    """

    restorer: Restorer
    pictures: NDArray[np.uint8]
    _reference: NDArray[np.uint8] | None = None

    def __call__(self, rival: Rival, result: NDArray[np.uint8]) -> Parity:
        """Of a rival's result."""
        if self._reference is None:
            self._reference = float32_reference(self.restorer.plan, self.pictures, self.restorer.threads)
        return judge(rival, result, self._reference)


@contextmanager
def beside(
    plan: Path, restorer: Restorer, size: Size, wanted: Wanted, note: Note, report: Note
) -> Iterator[list[Entrant]]:
    """Open the rivals, warm and judged; those that fail are left out with a note.

    Args:
        plan: the file.
        restorer: of it.
        size: of the pictures.
        wanted: names the rivals.
        note: takes what a reader must know.
        report: takes lines of progress.

    Raises:
        InputError: for names and checkpoints that are wrong.
    """
    if not wanted.against:
        yield []
        return
    pictures = picture_of(restorer, size)
    if restorer.upscale > 1:
        # What a rival restores has been enlarged already, which is as nothing beside what it does.
        pictures = np.stack([enlarged_levels(each, restorer.upscale) for each in pictures])
    checkpoint = wanted.checkpoint or shipped(restorer)
    opened = rivals(
        wanted.against, plan, checkpoint, size, restorer.threads, companions=wanted.companions, note=note, report=report
    )
    with opened as found:
        entrants: list[Entrant] = []
        by = Judge(restorer, pictures)
        for rival in found:
            report(f"parity of {rival.name}")
            try:
                entrants += list(_entrants(rival, size, by))
            except MrsError as error:
                note(f"rival {rival.name} left out: {error}")
        yield entrants


def shipped(restorer: Restorer) -> Path | None:
    """The shipped checkpoint whose name a plan says, if there is one; what is in it is compared later."""
    said = restorer.plan.manifest.get("checkpoint")
    path = WEIGHTS / Path(str(said.get("name", ""))).name if isinstance(said, dict) else WEIGHTS
    return path if path.is_file() else None


def _entrants(rival: Rival, size: Size, judged: Judge) -> Iterator[Entrant]:
    """A rival's restore, its bare evaluations, or both; each is warm."""
    if rival.run is not None:
        # Another solver was judged when it was opened; it takes too long to run once more for nothing.
        parity = rival.own_parity or judged(rival, rival.run(judged.pictures))
        yield Entrant(_case(rival, "restore", size, parity), partial(rival.run, judged.pictures), rival.rounds)
    if rival.evaluate is not None:
        rival.evaluate()
        yield Entrant(_case(rival, "network", size, None), rival.evaluate, rival.rounds)


def _case(rival: Rival, work: str, size: Size, parity: Parity | None) -> Case:
    batch, height, width = size
    return Case(
        work=work, by=rival.name, label=rival.label, backend=rival.backend, precision=rival.precision, height=height,
        width=width, batch=batch, evaluations=rival.evaluations, group=0, milliseconds=(),
        setup_seconds=rival.setup_seconds, parity=parity,
    )  # fmt: skip
