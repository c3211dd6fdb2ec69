"""Whole restores on the device: whether a graph does what the loop does, and how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.budget import Budget
from benchmarks.gpu.published import FORMS, published
from benchmarks.networks import REFUSION, random_network
from mrs import Schedule, Solver, Table, tableau
from mrs.export.graph import GraphShape, build_graph
from mrs.export.modulation import modulation_table
from mrs.export.nafnet import Architecture, ConditionalNAFNet
from mrs.runtime import backends, machine
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer

Keep = Callable[[str, dict[str, Any], dict[str, Any]], None]
# A small network for what does not depend on its size.
SMALL = Architecture(width=16, enc_blocks=(1, 1), mid_blocks=1, dec_blocks=(1, 1))
SIDES, STEPS = (256, 512, 1024), (10, 5)
REPLAYS, THREADS, EACH = 1000, 4, 200
ROUNDS, SECONDS = 30, 6.0
# The bars: percent of a restore outside the network at most, slowest hundredth over median at most.
OUTSIDE, JITTER = 3.0, 1.1


@dataclass
class Findings:
    """Figures of cases by name; what was wrong; what there was no time for."""

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def plan_of(net: ConditionalNAFNet, table: Table, side: int, backend: str, precision: str) -> Plan:
    """A plan in memory for square pictures."""
    engine = backends.get(backend)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = build_graph(state, net.arch, shape=GraphShape(*engine.forms[0])).SerializeToString()
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


@dataclass
class Bench:
    """Checks and timings, as far as the budget goes.

    Attributes:
        budget: seconds to spend.
        keep: called with case, settings and figures of each row.
        device: a `Cuda` or a double; by default the GPU.
        place: torch's name of where pictures are.
        arch: of the network that is timed.
        backend, small_backend: of the timings, and of the checks.
        precision: of the timings.
        sides, steps: of the timings.
        replays, threads, each: how many restores the checks make.
        rounds: of the timings.
    """

    budget: Budget
    keep: Keep
    device: Any = None
    place: str = "cuda"
    arch: Architecture = REFUSION
    backend: str = "torch"
    small_backend: str = "torch-eager"
    precision: str = "bf16"
    sides: Sequence[int] = SIDES
    steps: Sequence[int] = STEPS
    replays: int = REPLAYS
    threads: int = THREADS
    each: int = EACH
    rounds: int = ROUNDS
    forms: Sequence[str] = FORMS
    findings: Findings = field(default_factory=Findings)

    def run(self) -> Findings:
        """All of it: what must hold first, then timings, the bars' case first."""
        found = self.findings
        for name, check in (
            ("graph and loop", self.check_graph),
            ("threads", self.check_threads),
        ):
            self._spend(name, check)
        for side in self.sides:
            for steps in self.steps:
                self._spend(f"restore {side}, {steps} evaluations", lambda: self.time(side, steps))  # noqa: B023
        found.left_out += self.budget.left_out
        return found

    def check_graph(self) -> None:
        """Graph and loop give the same bytes, again and again, whatever came between."""
        side = min(self.sides)
        for solver in (Solver("ode", 2, steps=4), Solver("sde", 2, steps=4), Solver("dpm++", 2, steps=3)):
            table = tableau(Schedule(), solver)
            plan = plan_of(random_network(SMALL), table, side, self.small_backend, "fp32")
            picture = _picture(side)
            with self._load(plan) as graph, self._load(plan, graphs=False) as loop:
                first = graph.restore(picture, seed=3)
                for seed in (0, 3):
                    for given in (picture, (picture / 255).astype(np.float32)):
                        if not np.array_equal(graph.restore(given, seed=seed), loop.restore(given, seed=seed)):
                            self._wrong(f"{solver.method}: graph and loop differ for seed {seed} and {given.dtype}")
                restored = graph.restore(torch.tensor(picture, device=self.place), seed=3)
                graph.synchronize()
                if not np.array_equal(self._host(restored), first):
                    self._wrong(f"{solver.method}: a tensor's result differs from an array's")
                if not np.array_equal(graph.restore(picture, seed=3), first):
                    self._wrong(f"{solver.method}: the same seed gives another picture the second time")
        self.findings.figures["graph and loop"] = {"equal": not self.findings.wrong}

    def check_threads(self) -> None:
        """Four threads on two workers get what one gets."""
        side = min(self.sides)
        plan = plan_of(random_network(SMALL), tableau(Schedule(), Solver("sde", 2, steps=4)), side,
                       self.small_backend, "fp32")  # fmt: skip
        picture, wrong = _picture(side), []
        with self._load(plan, workers=2) as restorer:
            expected = [restorer.restore(picture, seed=seed) for seed in range(self.threads)]

            def work(seed: int) -> None:
                try:
                    for _ in range(self.each):
                        if not np.array_equal(restorer.restore(picture, seed=seed), expected[seed]):
                            wrong.append(f"thread {seed} got another picture")
                            return
                except Exception as error:  # noqa: BLE001  # a thread's failure is a result
                    wrong.append(f"thread {seed}: {type(error).__name__}: {error}")

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(self.threads)]
            begin = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - begin
        for line in wrong:
            self._wrong(line)
        figures = {"restores": self.threads * self.each, "seconds": seconds, "wrong": len(wrong)}
        self.findings.figures["threads"] = figures
        self.keep("gpu threads", {"threads": self.threads, "workers": 2, "side": side}, figures)

    def time(self, side: int, steps: int) -> None:
        """One size and number of evaluations: ours, its network alone, and the published loop, by turns."""
        table = tableau(Schedule(), Solver("ode", 2, steps=steps))
        net = random_network(self.arch)
        plan = plan_of(net, table, side, self.backend, self.precision)
        picture = _picture(side)
        figures: dict[str, Any] = {}
        with self._load(plan) as restorer, restorer.chain((1, side, side)) as chain:
            tensor = torch.tensor(picture[None], device=self.place)
            out = np.empty_like(picture[None])

            def ours() -> None:
                chain.restore_into(picture[None], out, 0)

            works: dict[str, Callable[[], Any]] = {"restore": ours, "network": chain.evaluate_all}
            there = net.to(self.place)
            for form in self.forms:
                restore = published(there, table, form)
                works[form] = lambda restore=restore: self._host(restore(tensor))  # type: ignore[misc]
            times = {name: self._guarded(name, work) for name, work in works.items()}
            works = {name: work for name, work in works.items() if times[name] is not None}
            samples = _by_turns(works, self.rounds, SECONDS)
            for name, each in samples.items():
                low, median, high = np.percentile(each, (25, 50, 75)).tolist()
                figures |= {f"{_key(name)}_ms": median, f"{_key(name)}_q1": low, f"{_key(name)}_q3": high}
            pairs = zip(samples["restore"], samples["network"], strict=True)
            figures["outside_percent"] = float(np.median([100 * (1 - part / whole) for whole, part in pairs]))
            for form in self.forms:
                if form in samples:
                    ratios = [one / other for one, other in zip(samples[form], samples["restore"], strict=True)]
                    figures[f"times_{_key(form)}"] = float(np.median(ratios))
            if (side, steps) == (self.sides[0], self.steps[0]):
                figures |= self._many(ours) | self._launches(ours)
        self.findings.figures[f"{side}, {steps}"] = figures
        self.keep(
            "gpu restore",
            {"network": f"width {self.arch.width}, random weights", "side": side, "evaluations": steps,
             "backend": self.backend, "precision": self.precision},
            figures,
        )  # fmt: skip

    def _many(self, restore: Callable[[], None]) -> dict[str, Any]:
        """Many replays: jitter, and memory that must not grow."""
        before = self._allocated()
        times = []
        for _ in range(self.replays):
            begin = time.perf_counter()
            restore()
            times.append(1e3 * (time.perf_counter() - begin))
        grown = self._allocated() - before
        if grown > 0:
            self._wrong(f"{self.replays} replays took {grown} bytes more")
        median, last = np.percentile(times, (50, 99)).tolist()
        return {"replays": self.replays, "p50_ms": median, "p99_ms": last, "jitter": last / median, "grown": grown}

    def _launches(self, restore: Callable[[], None]) -> dict[str, Any]:
        """What the host asks of CUDA in one restore."""
        if self.place == "cpu":
            return {}
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            restore()
        calls = {event.key: event.count for event in profile.key_averages()}
        graphs = sum(count for name, count in calls.items() if "GraphLaunch" in name)
        others = sum(count for name, count in calls.items() if "LaunchKernel" in name or "MemcpyAsync" in name)
        if (graphs, others) != (1, 0):
            self._wrong(f"a restore is {graphs} graph launches and {others} other launches and copies")
        return {"graph_launches": graphs, "other_launches": others}

    def _load(self, plan: Plan, **options: Any) -> Restorer:
        return Restorer(plan, device=self.device, **options)

    def _host(self, tensor: torch.Tensor) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = tensor.cpu().numpy()
        return array

    def _allocated(self) -> int:
        return 0 if self.place == "cpu" else int(torch.cuda.memory_allocated())

    def _guarded(self, name: str, work: Callable[[], Any]) -> float | None:
        """Seconds of a first run, which compiles; None where it fails."""
        begin = time.perf_counter()
        try:
            work()
        except Exception as error:  # noqa: BLE001  # one that fails must not stop the others
            self._wrong(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return None
        return time.perf_counter() - begin

    def _spend(self, name: str, work: Callable[[], None]) -> None:
        self.budget.spend(name.split()[0], name, lambda: self._guarded(name, work))

    def _wrong(self, line: str) -> None:
        self.findings.wrong.append(line)


def _by_turns(works: dict[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each, in turns, until the rounds or the seconds are over; five turns at least."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    for turn in range(rounds):
        if turn >= 5 and time.perf_counter() > end:
            break
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            samples[name].append(1e3 * (time.perf_counter() - begin))
    return samples


def _picture(side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def _key(name: str) -> str:
    return name.replace(" ", "_")


def lines(found: Findings, about: dict[str, Any]) -> list[str]:
    """The report."""
    shown = [f"restores on {about['device']}: ms, medians; Refusion's network, random weights, bf16"]
    for name, figures in found.figures.items():
        if "restore_ms" not in figures:
            shown.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
            continue
        times = " ".join(
            f"{key.removesuffix('_ms')} {value:.2f}" for key, value in figures.items() if key.endswith("_ms")
        )
        shown.append(f"{name} evaluations: {times}; outside {figures['outside_percent']:.1f} %")
        shown += [f"  {key.replace('_', ' ')}: {value:.2f}" for key, value in figures.items() if "times_" in key]
        if "jitter" in figures:
            shown += [
                f"bar: outside the network at most {OUTSIDE:g} %: {_verdict(figures['outside_percent'] <= OUTSIDE)}",
                f"bar: p99/p50 at most {JITTER:g}: {_verdict(figures['jitter'] <= JITTER)} ({figures['jitter']:.3f})",
                "bar: faster than torch.compile with graphs: "
                + _verdict(figures.get("times_compile_bf16", 0.0) > 1),
                f"bar: one graph launch: {_verdict(figures.get('graph_launches') == 1)}",
            ]  # fmt: skip
    shown += [f"left out: {name}" for name in found.left_out]
    return shown + [f"WRONG: {line}" for line in found.wrong]


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"
