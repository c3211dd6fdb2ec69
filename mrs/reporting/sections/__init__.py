"""The sections of the page. Each is None where the results have nothing of it, so that no heading stands alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mrs.reporting.parts import Section
from mrs.reporting.sections.latency import latency
from mrs.reporting.sections.one_restore import pictures, timeline, trajectory
from mrs.reporting.sections.provenance import build, machines
from mrs.reporting.sections.quality import quality
from mrs.reporting.sections.scaling import scaling
from mrs.reporting.sections.side_by_side import side_by_side
from mrs.reporting.sections.start import start
from mrs.reporting.subjects import Subject

MAKERS: tuple[Callable[[Sequence[Subject]], Section | None], ...] = (
    side_by_side, latency, scaling, quality, pictures, trajectory, timeline, start, build, machines,
)  # fmt: skip


def sections(subjects: Sequence[Subject]) -> list[Section]:
    """Those that the results have something for, in the order of the page."""
    return [section for make in MAKERS if (section := make(subjects)) is not None]
