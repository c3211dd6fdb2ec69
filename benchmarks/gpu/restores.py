"""Whole restores on the device: whether a graph does what the loop does, and how long every engine takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.budget import Budget
from benchmarks.gpu.published import FORMS, published
from benchmarks.networks import REFUSION, random_network
from mrs import Schedule, Solver, Table, tableau
from mrs.export.forms import first
from mrs.export.graph import build_graph
from mrs.export.modulation import modulation_table
from mrs.export.nafnet import Architecture, ConditionalNAFNet
from mrs.kernels.threads import NOTICE
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
# Seconds that an engine or a form of the published loop may take until it runs, the first time.
EXPECTED = {"torch": 40.0, "tensorrt": 60.0, "onnxruntime-cuda": 20.0, "onnxruntime-tensorrt": 90.0,
            "torch-eager": 10.0, "compile bf16": 60.0, "replays": 15.0}  # fmt: skip
# An engine may lie as far from float32 as twice what torch does at the same precision, and levels of 255.
TIMES, LEVELS = 2.0, 0.5


@dataclass
class Findings:
    """Figures of cases by name; what was wrong; what there was no time for; engines that cannot run here, and why."""

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def plan_of(net: ConditionalNAFNet, table: Table, side: int, backend: str, precision: str) -> Plan:
    """A plan in memory for square pictures."""
    engine = backends.get(backend)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = build_graph(state, net.arch, shape=first(engine)).SerializeToString()
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
        engines: backends that are timed, by their names; by default all for GPUs.
        small_backend: of the checks.
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
    engines: Sequence[str] = field(default_factory=lambda: engines_of("cuda"))
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
    _checked: list[str] = field(default_factory=list)

    def run(self) -> Findings:
        """All of it: what must hold first, then timings, the bars' case first."""
        found = self.findings
        for name, check in (
            ("graph and loop", self.check_graph),
            ("threads", self.check_threads),
            ("engines", self.check_engines),
        ):
            self._begun(name, name, check)
        for side in self.sides:
            for steps in self.steps:
                name = f"restore {side}, {steps} evaluations"
                self._begun(name, name, partial(self.time, side, steps))
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
                # Without a timeout Ctrl-C just before it waits would not be seen.
                while thread.is_alive():
                    thread.join(NOTICE)
            seconds = time.perf_counter() - begin
        for line in wrong:
            self._wrong(line)
        figures = {"restores": self.threads * self.each, "seconds": seconds, "wrong": len(wrong)}
        self.findings.figures["threads"] = figures
        self.keep("gpu threads", {"threads": self.threads, "workers": 2, "side": side}, figures)

    def _installed(self) -> list[str]:
        """The engines that run here; the others are skipped by name."""
        for name in self.engines:
            engine = backends.get(name)
            reason = engine.missing()
            if reason is None and self.precision not in engine.precisions():
                reason = f"no {self.precision} on this GPU"
            if reason is not None:
                self.findings.skipped[name] = reason
        return [name for name in self.engines if name not in self.findings.skipped]

    def check_engines(self) -> None:
        """Every engine restores what torch does in float32, about as nearly as torch does at the same precision."""
        side, installed = min(self.sides), self._installed()
        net, table = random_network(SMALL), tableau(Schedule(), Solver("ode", 2, steps=4))

        def restored(engine: str, precision: str) -> NDArray[np.float64]:
            with self._load(plan_of(net, table, side, engine, precision)) as restorer:
                return restorer.restore(_picture(side), seed=3).astype(np.float64)

        exact = restored(self.small_backend, "fp32")
        bound = TIMES * _distance(restored(self.small_backend, self.precision), exact) + LEVELS
        distances = {}
        for engine in installed:
            picture = self._begun(engine, f"check of {engine}", partial(restored, engine, self.precision))
            if picture is None:
                continue
            distances[engine] = _distance(picture, exact)
            # What is wrong, or was not looked at, is not timed.
            if distances[engine] <= bound:
                self._checked.append(engine)
            else:
                self._wrong(f"{engine}: {distances[engine]:.2f} levels from float32, {bound:.2f} allowed")
        self.findings.figures["engines"] = {"bound_levels": bound, **distances}

    def time(self, side: int, steps: int) -> None:
        """One size and number of evaluations: every engine, its network alone, and the published loop, by turns."""
        table = tableau(Schedule(), Solver("ode", 2, steps=steps))
        net, picture = random_network(self.arch), _picture(side)[None]
        out = np.empty_like(picture)
        with ExitStack() as stack:
            chains: dict[str, Any] = {}
            works: dict[str, Callable[[], Any]] = {}

            def add(name: str, work: Callable[[], Any]) -> None:
                work()
                works[name] = work

            def load(engine: str) -> None:
                chain = self._chain(stack, net, table, side, engine)
                add(engine, lambda: chain.restore_into(picture, out, 0))
                add(f"{engine} network", chain.evaluate_all)
                chains[engine] = chain

            for engine in self._checked:
                self._begun(engine, f"{engine} at {side}, {steps} evaluations", partial(load, engine))
            tensor, there = torch.tensor(picture, device=self.place), net.to(self.place)

            def rival(form: str) -> None:
                restore = published(there, table, form)
                add(form, lambda: self._host(restore(tensor)))

            for form in self.forms if chains else ():
                self._begun(form, f"{form} at {side}, {steps} evaluations", partial(rival, form))
            samples = _by_turns(works, self.rounds, SECONDS)
            for engine, chain in chains.items():
                figures = self._compared(samples, engine)
                if (side, steps) == (self.sides[0], self.steps[0]):
                    figures |= self._begun("replays", f"replays of {engine}", partial(self._many, works[engine])) or {}
                    figures |= self._launches(engine, chain.captured, works[engine])
                self.findings.figures[f"{side}, {steps}, {engine}"] = figures
                self.keep(
                    "gpu restore",
                    {"network": f"width {self.arch.width}, random weights", "side": side, "evaluations": steps,
                     "backend": engine, "version": backends.get(engine).version(), "precision": self.precision},
                    figures,
                )  # fmt: skip

    def _chain(self, stack: ExitStack, net: ConditionalNAFNet, table: Table, side: int, engine: str) -> Any:
        """A chain of an engine, which lives as long as the stack."""
        restorer = stack.enter_context(self._load(plan_of(net, table, side, engine, self.precision)))
        return stack.enter_context(restorer.chain((1, side, side)))

    def _compared(self, samples: dict[str, list[float]], engine: str) -> dict[str, Any]:
        """An engine's times, the share of its network, and how many times faster than each other one it is."""
        figures: dict[str, Any] = {}
        own = {"restore": samples[engine], "network": samples[f"{engine} network"]}
        for name, each in {**own, **{form: samples[form] for form in self.forms if form in samples}}.items():
            low, median, high = np.percentile(each, (25, 50, 75)).tolist()
            figures |= {f"{_key(name)}_ms": median, f"{_key(name)}_q1": low, f"{_key(name)}_q3": high}
        pairs = zip(own["restore"], own["network"], strict=True)
        figures["outside_percent"] = float(np.median([100 * (1 - part / whole) for whole, part in pairs]))
        for name in (*self.forms, *self._checked):
            if name in samples and name != engine:
                ratios = [one / other for one, other in zip(samples[name], samples[engine], strict=True)]
                figures[f"times_{_key(name)}"] = float(np.median(ratios))
        return figures

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

    def _launches(self, engine: str, captured: bool, restore: Callable[[], None]) -> dict[str, Any]:
        """What the host asks of CUDA in one restore: one launch of a graph, where the engine can be captured."""
        if self.place == "cpu":
            return {}
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            restore()
        calls = {event.key: event.count for event in profile.key_averages()}
        graphs = sum(count for name, count in calls.items() if "GraphLaunch" in name)
        others = sum(count for name, count in calls.items() if "LaunchKernel" in name or "MemcpyAsync" in name)
        if captured and (graphs, others) != (1, 0):
            self._wrong(f"{engine}: a restore is {graphs} graph launches and {others} other launches and copies")
        return {"graph_launches": graphs, "other_launches": others}

    def _load(self, plan: Plan, **options: Any) -> Restorer:
        return Restorer(plan, device=self.device, **options)

    def _host(self, tensor: torch.Tensor) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = tensor.cpu().numpy()
        return array

    def _allocated(self) -> int:
        return 0 if self.place == "cpu" else int(torch.cuda.memory_allocated())

    def _begun(self, kind: str, name: str, work: Callable[[], Any]) -> Any:
        """What work gives; None where it fails, or there is no time for its kind."""
        return self.budget.spend(kind, name, lambda: self._guarded(name, work))

    def _guarded(self, name: str, work: Callable[[], Any]) -> Any:
        """What work gives; None where it fails."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  # one that fails must not stop the others
            self._wrong(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return None

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


def engines_of(device: str) -> list[str]:
    """Names of all backends for a kind of device."""
    return [name for name, engine in backends.BACKENDS.items() if engine.device == device]


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Root of the mean square of the differences."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


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
        shown.append(f"{name}: {times}; outside {figures['outside_percent']:.1f} %")
        faster = {key.removeprefix("times_"): value for key, value in figures.items() if key.startswith("times_")}
        shown.append(
            "  times faster than " + ", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in faster.items())
        )
        if "jitter" in figures:
            shown += _bars(name.rpartition(", ")[2], figures, faster)
    shown += [f"skipped: {name}: {reason}" for name, reason in found.skipped.items()]
    shown += [f"left out: {name}" for name in found.left_out]
    return shown + [f"WRONG: {line}" for line in found.wrong]


def _bars(engine: str, figures: dict[str, Any], faster: dict[str, float]) -> list[str]:
    launches = figures.get("graph_launches")
    reached = {
        f"outside the network at most {OUTSIDE:g} %": figures["outside_percent"] <= OUTSIDE,
        f"p99/p50 at most {JITTER:g}": figures["jitter"] <= JITTER,
        "faster than torch.compile with graphs": _above_one(faster.get("compile_bf16")),
        "faster than ONNX Runtime": _above_one(faster.get("onnxruntime-cuda")),
        "one graph launch": None if launches is None else launches == 1,
    }
    verdicts = {True: "reached", False: "MISSED", None: "not measured"}
    return [f"bar: {bar}, {engine}: {verdicts[met]}" for bar, met in reached.items()]


def _above_one(ratio: float | None) -> bool | None:
    return None if ratio is None else ratio > 1
