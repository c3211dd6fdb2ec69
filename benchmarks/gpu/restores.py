"""Whole restores on the device: how long every engine takes, beside torch's own ways to do the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache, partial
from typing import NotRequired, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.budget import Budget
from benchmarks.gpu.kept import Figures, Kept
from benchmarks.gpu.parts import COMPILED, ENGINE, FORMS
from benchmarks.gpu.published import Compiler, published
from benchmarks.networks import REFUSION, random_network
from mrs import Schedule, Solver, Table, tableau
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.graph_variant import GraphVariant, first_variant
from mrs.kernels.update import Pixels
from mrs.runtime import backends
from mrs.runtime.device import Device
from mrs.runtime.measure import Spread, interleaved, ratios
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine

T = TypeVar("T")
# A small network for what does not depend on its size.
SMALL = NAFNet(width=16, enc_blocks=(1, 1), mid_blocks=1, dec_blocks=(1, 1))
ROUNDS, SECONDS = 30, 3.0
REPLAYS, REPLAYING = 1000, 8.0
# Seconds that an engine or a form of the published loop may take until it runs, the first time; and again, where it was
# compiled for pictures of that size before, by this process or by another.
EXPECTED = {"compiling": 50.0, "compiling again": 15.0, "tensorrt": 60.0, "onnxruntime-cuda": 20.0,
            "onnxruntime-tensorrt": 90.0, "torch-eager": 8.0, "eager fp32": 5.0, "eager bf16": 5.0,
            "replays": REPLAYING, "launches": 5.0}  # fmt: skip
AGAINST = "gpu restore against "  # the rival's name follows
# An engine may lie as far from float32 as twice what torch does at the same precision, and levels of 255.
EXACT, TIMES, LEVELS = "torch-eager", 2.0, 0.5


@dataclass(frozen=True)
class Case:
    """One engine at one size: side of the square picture, and evaluations of a restore."""

    side: int
    evaluations: int
    engine: str

    def __str__(self) -> str:
        return f"{self.side}, {self.evaluations} evaluations, {self.engine}"


class Works(TypedDict):
    """What an engine, or a form of the published loop, does: a restore and, of an engine, its network alone."""

    restore: Callable[[], Pixels]
    network: NotRequired[Callable[[], None]]


@dataclass
class Findings:
    """Figures by case; what was wrong; what there was no time for."""

    figures: dict[Case, Figures] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def plan_of(net: ConditionalNAFNet, table: Table, side: int, backend: str, precision: str) -> Plan:
    """A plan in memory for square pictures."""
    engine = backends.get(backend)
    graph = _graph(net, first_variant(engine))
    manifest = {
        "backend": backend,
        "precision": precision,
        "fingerprint": machine.fingerprint(backend, engine.version(), engine.device),
        "shape": [1, side, side],
        "network": {"channels": 3, "multiple": net.arch.multiple, "bytes_per_pixel": 40 * net.arch.width},
        "table": {
            "times": list(table.times), "rows": [list(row) for row in table.rows], "start": table.start,
            "clamp": table.clamp,
        },
    }  # fmt: skip
    return Plan(manifest, graph, modulation_table(net, table.times[:-1]))


@lru_cache(maxsize=2)
def _graph(net: ConditionalNAFNet, form: GraphVariant) -> bytes:
    """A network's graph; of a large one it takes seconds."""
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return build_graph(state, net.arch, variant=form).SerializeToString()


@dataclass
class Bench:
    """Timings, as far as the budget goes. Each row is kept as soon as it is known.

    Attributes:
        budget: seconds to spend.
        kept: the rows; what is among them already is not measured again.
        say: called with a line for each row.
        device: a `Cuda` or a double; by default the GPU.
        place: torch's name of where pictures are.
        arch: of the network.
        precision: of the engines.
        replays, rounds: how many restores are timed, at most.
        compiler: of the published loop.
        now: a clock in seconds.
        compiled: engines and forms that were compiled before, by side and name.
    """

    budget: Budget
    kept: Kept
    say: Callable[[str], object] = print
    device: Device | None = None
    place: str = "cuda"
    arch: NAFNet = REFUSION
    precision: str = "bf16"
    replays: int = REPLAYS
    rounds: int = ROUNDS
    compiler: Compiler = torch.compile
    now: Callable[[], float] = time.perf_counter
    compiled: set[tuple[int, str]] = field(default_factory=set)
    findings: Findings = field(default_factory=Findings)
    _pictures: dict[tuple[int, int, str], NDArray[np.float64]] = field(default_factory=dict)

    @cached_property
    def _net(self) -> ConditionalNAFNet:
        return random_network(self.arch)

    def run(self, cases: Sequence[Case], rivals: Sequence[str], whole: bool = False) -> Findings:
        """Measure cases, each beside its rivals: engines, or forms of the published loop.

        With `whole`, count for the first what the host launches, and time many restores one after the other.
        """
        for case in cases:
            self._begun(str(case), str(case), partial(self._measure, case, rivals, whole and case == cases[0]))
        self.findings.left_out += self.budget.left_out
        return self.findings

    def prepare(self, side: int, name: str) -> Findings:
        """Load an engine or a form of the published loop and restore once: what it compiles is found again later."""
        with ExitStack() as stack:
            self._guarded(name, lambda: self._loaded(stack, Case(side, 2, name)))
        return self.findings

    def missing(self, case: Case, rivals: Sequence[str], whole: bool = False) -> list[str]:
        """The rows of a case that must still be measured; the figures of the others are taken."""
        found = self.findings.figures.setdefault(case, {})
        missing = []
        for row in ("gpu restore", *map(AGAINST.__add__, rivals), *(["gpu replays", "gpu launches"] if whole else [])):
            figures = self.kept.find(row, self._settings(case))
            found |= figures or {}
            missing += [row] * (figures is None)
        return missing

    def _measure(self, case: Case, rivals: Sequence[str], whole: bool) -> None:
        missing = self.missing(case, rivals, whole)
        if not missing:
            return
        own = {"gpu restore": self._alone, "gpu replays": self._many, "gpu launches": self._launches}
        with ExitStack() as stack:
            loading = self._loading(case.side, case.engine)
            loaded = self._begun(loading, f"{case}: loading", lambda: self._right(stack, case))
            if loaded is None:
                return
            for row in missing:
                rival = row.removeprefix(AGAINST)
                measure = own.get(row) or partial(self._against, rival=rival)
                kind = row.removeprefix("gpu ") if row in own else self._loading(case.side, rival)
                figures = self._begun(kind, f"{case}: {row.removeprefix('gpu ')}", partial(measure, case, loaded))
                if figures:
                    self.findings.figures[case] |= figures
                    self.kept.add(row, self._settings(case), figures)
                    self.say(f"{case}: " + shown(figures))

    def _loading(self, side: int, name: str) -> str:
        """What kind of work it is to load an engine or a form."""
        if name not in (ENGINE, COMPILED):
            return name
        # One tells how long the other will take: it is the same network, and the same compiler.
        return "compiling again" if (side, name) in self.compiled else "compiling"

    def _right(self, stack: ExitStack, case: Case) -> Works | None:
        """An engine that was loaded, and restored about what torch does in float32; None for one that did not.

        It may lie as far from that as torch does at the same precision, or a little more.
        """
        works = self._loaded(stack, case)
        exact, near = (self._picture(case, precision) for precision in ("fp32", self.precision))
        bound = TIMES * _distance(near, exact) + LEVELS
        distance = _distance(works["restore"]().astype(np.float64), exact)
        if distance <= bound:
            return works
        self._wrong(f"{case}: {distance:.2f} levels from float32, {bound:.2f} allowed")
        return None

    def _picture(self, case: Case, precision: str) -> NDArray[np.float64]:
        """What torch restores, operation by operation."""
        key = case.side, case.evaluations, precision
        if key not in self._pictures:
            with ExitStack() as stack:
                self._pictures[key] = self._chain(stack, case, EXACT, precision)["restore"]().astype(np.float64)
        return self._pictures[key]

    def _loaded(self, stack: ExitStack, case: Case) -> Works:
        """An engine or a form of the published loop that has run: `restore` and, of an engine, `network`."""
        works = self._load(stack, case)
        self.compiled.add((case.side, case.engine))
        return works

    def _load(self, stack: ExitStack, case: Case) -> Works:
        if case.engine not in FORMS:
            return self._chain(stack, case, case.engine, self.precision)
        net = deepcopy(self._net).to(self.place)
        restore = published(net, _table(case), case.engine, self.compiler)
        tensor = torch.tensor(_square(case.side)[None], device=self.place)
        works: Works = {"restore": lambda: restore(tensor).cpu().numpy()}
        works["restore"]()
        return works

    def _chain(self, stack: ExitStack, case: Case, engine: str, precision: str) -> Works:
        plan = plan_of(self._net, _table(case), case.side, engine, precision)
        restorer = stack.enter_context(Restorer(plan, device=self.device))
        chain = stack.enter_context(restorer.chain((1, case.side, case.side)))
        picture = _square(case.side)[None]
        out = np.empty_like(picture)
        works: Works = {"restore": lambda: chain.restore_into(picture, out, 0), "network": chain.evaluate_all}
        works["restore"]()
        works["network"]()
        return works

    def _alone(self, case: Case, works: Works) -> Figures:
        """A restore, from a picture on the host to its result there, and of that the network."""
        samples = self._interleaved({"restore": works["restore"], "network": works["network"]})
        pairs = zip(samples["restore"], samples["network"], strict=True)
        outside = float(np.median([100 * (1 - part / whole) for whole, part in pairs]))
        return {**_spread("restore", samples["restore"]), **_spread("network", samples["network"]),
                "outside_percent": outside, "rounds": len(samples["restore"])}  # fmt: skip

    def _against(self, case: Case, works: Works, rival: str) -> Figures:
        """A restore and a rival's, interleaved."""
        with ExitStack() as stack:
            other = Case(case.side, case.evaluations, rival)
            rivals = self._loaded(stack, other) if rival in FORMS else self._right(stack, other)
            if rivals is None:
                return {}
            samples = self._interleaved({"ours": works["restore"], "theirs": rivals["restore"]})
        times = Spread.of(ratios(samples["theirs"], samples["ours"]))
        key = _key(rival)
        return {f"times_{key}": times.median, f"times_{key}_q1": times.q1, f"times_{key}_q3": times.q3,
                **_spread(key, samples["theirs"]), f"beside_{key}_ms": float(np.median(samples["ours"]))}  # fmt: skip

    def _many(self, case: Case, works: Works) -> Figures:
        """Many restores one after the other: jitter, and memory that must not grow."""
        before, end = self._allocated(), self.now() + REPLAYING
        times: list[float] = []
        while len(times) < self.replays and (len(times) < min(self.replays, 100) or self.now() < end):
            begin = self.now()
            works["restore"]()
            times.append(1e3 * (self.now() - begin))
        grown = self._allocated() - before
        if grown > 0:
            self._wrong(f"{case}: {len(times)} replays took {grown} bytes more")
        found = Spread.of(times)
        return {"replays": len(times), "p50_ms": found.median, "p99_ms": found.p99, "jitter": found.p99 / found.median,
                "grown": grown}  # fmt: skip

    def _launches(self, case: Case, works: Works) -> Figures:
        """What the host asks of CUDA in one restore. Last of all: what follows a profile may be slower."""
        if self.place == "cpu":
            return {"graph_launches": 1, "other_launches": 0}
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            works["restore"]()
        found = launched({event.key: event.count for event in profile.key_averages()})
        if found is None:
            self.findings.left_out.append(f"{case}: launches (torch's profiler sees no call of CUDA here)")
            return {}
        graphs, others = found
        # ONNX Runtime's graphs are its own, one for each evaluation.
        if not case.engine.startswith("onnxruntime") and (graphs, others) != (1, 0):
            self._wrong(f"{case}: a restore is {graphs} graph launches and {others} other launches and copies")
        return {"graph_launches": graphs, "other_launches": others}

    def _interleaved(self, works: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Milliseconds of each, until the rounds or the seconds are over; five rounds at least."""
        return interleaved(works, least=min(5, self.rounds), most=self.rounds, seconds=SECONDS, now=self.now)

    def _settings(self, case: Case) -> dict[str, object]:
        return {"network": f"width {self.arch.width}, random weights", **asdict(case),
                "version": backends.get(case.engine).version(), "precision": self.precision}  # fmt: skip

    def _allocated(self) -> int:
        return 0 if self.place == "cpu" else int(torch.cuda.memory_allocated())

    def _begun(self, kind: str, name: str, work: Callable[[], T]) -> T | None:
        """What work gives; None where it fails, or there is no time for its kind."""
        return self.budget.spend(kind, name, lambda: self._guarded(name, work))

    def _guarded(self, name: str, work: Callable[[], T]) -> T | None:
        """What work gives; None where it fails."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  # one that fails must not stop the others
            self._wrong(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return None

    def _wrong(self, line: str) -> None:
        self.findings.wrong.append(line)


def launched(calls: Mapping[str, int]) -> tuple[int, int] | None:
    """Launches of graphs, and other launches and copies, among the calls of a profile.

    None where it shows no call of CUDA at all: without CUPTI, or where that is not allowed, torch goes on without.
    """
    if not any(name.startswith(("cuda", "cuLaunch", "cuGraph")) for name in calls):
        return None
    graphs = sum(count for name, count in calls.items() if "GraphLaunch" in name)
    return graphs, sum(count for name, count in calls.items() if "LaunchKernel" in name or "MemcpyAsync" in name)


def _table(case: Case) -> Table:
    return tableau(Schedule(), Solver("ode", 2, steps=case.evaluations))


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Root of the mean square of the differences."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def _square(side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def _spread(name: str, samples: Sequence[float]) -> dict[str, float]:
    spread = Spread.of(samples)
    return {f"{name}_ms": spread.median, f"{name}_q1": spread.q1, f"{name}_q3": spread.q3}


def _key(name: str) -> str:
    return name.replace(" ", "_")


def shown(figures: Mapping[str, object]) -> str:
    """A row's figures for the screen, without quartiles."""
    return ", ".join(
        f"{key.removesuffix('_ms').replace('_', ' ')} {value:.2f}{' ms' * key.endswith('_ms')}"
        if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in figures.items() if not key.endswith(("_q1", "_q3"))
    )  # fmt: skip
