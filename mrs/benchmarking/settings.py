"""What a benchmark is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrs.benchmarking.quality.wanted import Wanted as QualityWanted
    from mrs.benchmarking.rivals import Companions
    from mrs.runtime.plan import Plan
    from mrs.runtime.session import Restorer

# Samples of each work at least, whatever time there is.
LEAST = 5
# Pictures: (N, H, W), with sides of the large ones where a plan enlarges.
Size = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Running:
    """How the plan is run: the options of `mrs.load`, which says what they mean."""

    backend: str | None = None
    precision: str | None = None
    threads: int | None = None
    graphs: bool = True
    engine: bool = True
    cache: bool = True

    def load(self, plan: Path, workers: int = 1) -> Restorer:
        """The plan, run so."""
        from mrs.runtime.session import load

        return load(plan, workers=workers, **self.to_dict())

    def restorer(self, plan: Plan) -> Restorer:
        """A plan in memory, run so."""
        from mrs.runtime.session import Restorer

        return Restorer(plan, **self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for another process."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is measured.

    Attributes:
        size: (H, W) of the pictures; None for the plan's.
        batch: pictures at once; None for the plan's.
        sizes: further ones, each at batch 1.
        batches: further ones, each at `size`.
        workers: numbers of workers whose throughput is measured.
        processes: that are started to time their first result, and to repeat the measurement.
        seconds: for all that is repeated, beyond the least number of samples.
        against: rivals by name, in the rounds of the plan's own case.
        checkpoint: for rivals that torch runs; None for the one that the plan names.
        companions: of the checkpoint, where its network is not all that restores.
        quality: on which pictures, and how; None where it is not measured.
    """

    size: tuple[int, int] | None = None
    batch: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    batches: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    processes: int = 5
    seconds: float = 10.0
    against: tuple[str, ...] = ()
    checkpoint: Path | None = None
    companions: Companions | None = None
    quality: QualityWanted | None = None

    @property
    def share(self) -> float:
        """Seconds for each thing that is measured: the plan's own case counts twice, and once more for each rival."""
        parts = 2 + len(self.against) + len(self.sizes) + len(self.batches) + len(self.workers) + self.processes
        return self.seconds / parts

    @property
    def own_share(self) -> float:
        """Seconds for the plan's own case."""
        return (2 + len(self.against)) * self.share
