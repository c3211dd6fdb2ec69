"""The launches that are measured, and the arrays that they work on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import torch

from mrs import Schedule, Solver, Table, tableau
from mrs.kernels import gpu
from mrs.kernels.gpu import tables, traffic
from mrs.kernels.gpu.audit import launch as audit_launch
from mrs.kernels.gpu.finish import launch as finish_launch
from mrs.kernels.gpu.launch import Launch
from mrs.kernels.gpu.start import launch as start_launch
from mrs.kernels.gpu.step import launch as step_launch
from mrs.kernels.gpu.threshold import launches as threshold_launches
from mrs.kernels.table import Row

CHANNELS, STEPS, MIDDLE, SEED = 3, 10, 5, 7
SCHEDULE = Schedule()
# What a row costs depends on what it reads, keeps and draws, and on nothing else.
SOLVERS = {
    "posterior": Solver("posterior", 1, steps=STEPS),  # noise, no older prediction
    "order 1": Solver("dpm++", 1, steps=STEPS),  # neither
    "order 2": Solver("dpm++", 2, steps=STEPS),  # one older prediction; keeps its own
    "order 3": Solver("dpm++", 3, steps=STEPS),  # two
}
KERNELS = (
    ("start", "posterior"),
    *(("step", name) for name in SOLVERS),
    ("finish", "posterior"),
    ("finish", "order 2"),
    ("threshold", "order 2"),
)
# Neither row nor layout concern it.
AUDIT = ("audit", "posterior")
LAYOUTS = ("planes", "last")
# Side and batch. The bars are about the first two.
SHAPES = ((256, 1), (1024, 8), (1024, 1), (2048, 8), (256, 8), (512, 1), (512, 8), (2048, 1))


@dataclass(frozen=True)
class Case:
    """One kernel on one kind of batch.

    Attributes:
        kernel: `start`, `step`, `finish`, `threshold` or `audit`.
        row: of SOLVERS: the middle row of its table, for `finish` the last.
        dtype, layout: of the network's arrays; layout `planes` or `last`.
        side, batch: of the square pictures.
        picture: the type of their numbers.
    """

    kernel: str
    row: str
    dtype: str
    layout: str
    side: int
    batch: int
    picture: str = "uint8"

    @property
    def name(self) -> str:
        """Without its shape."""
        row = "" if self.kernel in ("start", "threshold", "audit") else f" {self.row}"
        picture = f" {self.picture}" if self.kernel in ("start", "finish") else ""
        return f"{self.kernel}{row}{picture}, {self.dtype} {self.layout}"

    @property
    def shape(self) -> str:
        """Such as `256x8`: side, batch."""
        return f"{self.side}x{self.batch}"

    @property
    def settings(self) -> dict[str, object]:
        """For a row of results."""
        return {**asdict(self), "channels": CHANNELS}

    @property
    def index(self) -> int:
        """Of the row in its table."""
        return STEPS - 1 if self.kernel == "finish" else MIDDLE


def bar_cases() -> list[Case]:
    """Every kernel that has bars, in bfloat16 at the shapes that these are about; and `threshold`."""
    return _at(SHAPES[:2])


def other_cases() -> list[Case]:
    """Every kernel in bfloat16 at the other shapes, other types at one shape, and `audit` at every shape."""
    side, batch = SHAPES[1]
    types = [
        *(Case("step", "order 2", dtype, layout, side, batch)
          for dtype, layout in product(("float16", "float32"), LAYOUTS)),
        *(Case(kernel, "posterior", "bfloat16", "planes", side, batch, "float32") for kernel in ("start", "finish")),
    ]  # fmt: skip
    audits = [Case(*AUDIT, "bfloat16", "planes", *shape) for shape in SHAPES]
    return [*_at(SHAPES[2:4]), *types, *audits, *_at(SHAPES[4:])]


def rival_cases() -> list[Case]:
    """What is compared with torch."""
    shapes = ((256, 1), (256, 8), (1024, 1), (1024, 8))
    return [Case("step", row, "bfloat16", "planes", *shape) for row in ("order 2", "posterior") for shape in shapes]


def _at(shapes: tuple[tuple[int, int], ...]) -> list[Case]:
    return [
        Case(kernel, row, "bfloat16", layout, *shape)
        for shape, (kernel, row), layout in product(shapes, KERNELS, LAYOUTS)
    ]


@cache
def table_of(row: str) -> Table:
    """The table that a case's row is from; the network predicts noise."""
    return tableau(SCHEDULE, SOLVERS[row])


class Arrays:
    """A restore of random pictures in the middle of its steps; the same for the same case.

    Attributes:
        picture, result: (N, H, W, C).
        mu, x, first: (N, C, H, W); first is what x was in the beginning.
        output, packed: of the network.
        history, counts, bounds, status, records, key: as the kernels take them.
    """

    def __init__(self, case: Case, device: str) -> None:
        generator = torch.Generator(device).manual_seed(SEED)
        state = (case.batch, CHANNELS, case.side, case.side)
        kind, picture_kind = getattr(torch, case.dtype), getattr(torch, case.picture)
        order = torch.channels_last if case.layout == "last" else torch.contiguous_format
        table = table_of(case.row)
        deviation = SCHEDULE.sigma(table.times[case.index])

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=device)

        def network(values: torch.Tensor) -> torch.Tensor:
            return values.to(kind).contiguous(memory_format=order)

        self.mu = torch.rand(state, generator=generator, device=device)
        self.first = self.mu + deviation * normal(*state)
        self.x = self.first.clone()
        self.output = network(normal(*state))
        self.packed = network(torch.cat([self.x - self.mu, self.mu], 1))
        self.history = torch.rand((table.history, *state), generator=generator, device=device)
        pixels = (255 if case.picture == "uint8" else 1) * self.mu.permute(0, 2, 3, 1)
        self.picture = pixels.to(picture_kind).contiguous()
        self.result = torch.zeros_like(self.picture)
        self.counts = torch.zeros(gpu.workspace(case.batch), dtype=torch.int32, device=device)
        self.bounds = torch.zeros(case.batch, device=device)
        self.status = torch.zeros(1, dtype=torch.int32, device=device)
        self.records = torch.from_numpy(tables.records(table)).to(device)
        self.key = torch.from_numpy(tables.key(SEED)).to(device)


def arguments(case: Case, arrays: Arrays) -> tuple[Any, ...]:
    """Of the kernel's function."""
    a, size = arrays, (case.side, case.side)
    match case.kernel:
        case "start":
            return a.picture, a.mu, a.x, a.packed, a.records, a.key
        case "step":
            return a.x, a.mu, a.output, a.history, a.packed, a.records, a.key, None, case.index, size
        case "finish":
            return a.x, a.mu, a.output, a.history, a.result, a.records, a.key, None, case.index
        case "audit":
            return a.output, a.status
    return a.x, a.mu, a.output, a.records, a.counts, a.bounds, case.index, size


def launches(case: Case, arrays: Arrays) -> list[Launch]:
    """What the function would launch, checked and ready to run."""
    given = arguments(case, arrays)
    if case.kernel == "threshold":
        return threshold_launches(*given)
    made = {"start": start_launch, "step": step_launch, "finish": finish_launch, "audit": audit_launch}
    return [made[case.kernel](*given)]


def bytes_of(case: Case, launch: Launch) -> tuple[int, int]:
    """The fewest bytes that the kernel must read and write; `threshold` reads everything twice."""
    channels_last, network = case.layout == "last", getattr(torch, case.dtype).itemsize
    picture = getattr(torch, case.picture).itemsize
    row, keep = weights(case)
    match case.kernel:
        case "start":
            each, times = traffic.of_start(network, channels_last, picture), 1
        case "step":
            each, times = traffic.of_step(row, keep, network, launch.name == "step_pixels"), 1
        case "finish":
            each, times = traffic.of_finish(row, network, channels_last, picture), 1
        case "audit":
            each, times = traffic.of_audit(network), 1
        case _:
            each, times = traffic.of_count(network, channels_last), 2
    elements = times * case.batch * CHANNELS * case.side**2
    return int(each.read * elements), int(each.written * elements)


def weights(case: Case) -> tuple[Row, bool]:
    """A case's row as the kernels see it, in float32, and whether its prediction is kept."""
    table = table_of(case.row)
    record = tables.records(table)[case.index + 1]
    return Row._make(map(float, record[: len(Row._fields)])), bool(record[tables.KEEP])


def small(case: Case) -> Case:
    """The same compiled kernels on less."""
    return replace(case, side=32, batch=2)
