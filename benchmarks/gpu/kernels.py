"""Every kernel timed against the device's own copy, an empty kernel, and the same update in torch."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType

import torch
import triton
import triton.language as tl

from benchmarks.gpu import gate, rivals
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.cases import Arrays, Case, bytes_of, launches
from benchmarks.gpu.clock import Clock, Work
from benchmarks.gpu.kept import Figures, Kept
from benchmarks.gpu.published import Compiler
from mrs.kernels.gpu.launch import Launch
from mrs.runtime.measure import Spread, ratios

COLD = {"cache": "cold", "time": "between events on the device"}
# Bytes that any cache holds which is worth a warm figure: the pictures of 256x256 of which the second bar speaks.
WARM_BYTES = 8 << 20
COPY_BYTES = 1 << 31  # read and written by the copy that stands for the device's bandwidth
MOST_WRONG = 3  # after as many failures the others would only repeat them


@dataclass
class Findings:
    """What a run has measured; figures as in the rows of results.

    Attributes:
        copy: figures of the large copy and the empty kernel.
        kernels, rivals: by case.
        left_out: names of what there was no time or memory for.
        wrong: one line for everything that failed.
    """

    copy: Figures = field(default_factory=dict)
    kernels: dict[Case, Figures] = field(default_factory=dict)
    rivals: dict[Case, Figures] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@triton.jit
def nothing():
    """An empty kernel."""
    tl.static_assert(True)


def clock_of(cuda: ModuleType = torch.cuda, device: str = "cuda") -> Clock:
    """A clock whose flush reads four times what the device's cache holds: then nothing waits to be written back."""
    size = 4 * cuda.get_device_properties(device).L2_cache_size
    buffer = torch.zeros(max(1, size // 4), device=device)
    return Clock(cuda, buffer.sum)


@dataclass
class Bench:
    """The measurements of one run.

    Attributes:
        clock, budget: to measure with.
        kept: the rows; what is among them already is not measured again.
        say: called with a line for each row.
        device: where the arrays are.
        compiler: of the rivals, see `rivals.rivals`.
        copy_bytes: of the large copy.
        rounds: samples of each work.
    """

    clock: Clock
    budget: Budget
    kept: Kept
    say: Callable[[str], object] = print
    device: str = "cuda"
    compiler: Compiler | None = None
    copy_bytes: int = COPY_BYTES
    rounds: int = 50
    findings: Findings = field(default_factory=Findings)
    _passed: set[str] = field(default_factory=set)

    def run(self, first: list[Case], compared: list[Case], rest: list[Case]) -> Findings:
        """Time the first cases, compare others with torch, then time the rest, as far as the budget goes."""
        found = self.findings
        if not self._found("gpu copy", {"bytes": self.copy_bytes, **COLD}, found.copy):
            self.measure_copy()
        for kind, cases, measure in (
            ("kernel", first, self.measure_kernel),
            ("rivals", compared, self.measure_rivals),
            ("kernel", rest, self.measure_kernel),
        ):
            before = len(found.wrong)
            for case in cases:
                name = f"{case.name}, {case.shape}" + (" against torch" if kind == "rivals" else "")
                if not self._measured(case, kind) and len(found.wrong) - before < MOST_WRONG:
                    self.budget.spend(kind, name, lambda: self._guarded(name, measure, case))  # noqa: B023  # at once
        found.left_out += self.budget.left_out
        return found

    def prepare(self, first: list[Case], compared: list[Case]) -> Findings:
        """Compile what `run` would, with the check that it would make, and measure nothing."""
        for case in first:
            if not self._measured(case, "kernel"):
                self._guarded(case.name, self._pass, case)
        for case in compared:
            if not self._measured(case, "rivals"):
                self._guarded(f"{case.name} against torch", self._compile, case)
        return self.findings

    def _compile(self, case: Case) -> None:
        arrays = Arrays(case, self.device)
        for update in rivals.rivals(case, arrays, self.compiler).values():
            update()

    def measure_copy(self) -> None:
        """The device's bandwidth and an empty kernel's time."""
        works = {"copy": self._copy(self.copy_bytes), "empty": _empty()}
        # The first time wakes the device's clocks.
        _, samples = (self.clock.compare(works, self.rounds) for _ in range(2))
        copy, empty = Spread.of(samples["copy"]), Spread.of(samples["empty"])
        self.findings.copy |= {
            **_named("copy", copy), "bytes": self.copy_bytes, "gb_per_s": _rate(self.copy_bytes, copy.median),
            **_named("empty", empty),
        }  # fmt: skip
        self.kept.add("gpu copy", {"bytes": self.copy_bytes, **COLD}, self.findings.copy)
        self.say(f"copy: {self.findings.copy['gb_per_s']:.0f} GB/s; an empty kernel: {empty.median:.2f} us")

    def measure_kernel(self, case: Case) -> None:
        """One kernel, beside a copy of as many bytes and an empty kernel; small ones from a warm cache too."""
        self._pass(case)
        arrays = Arrays(case, self.device)
        ready = launches(case, arrays)
        read, written = bytes_of(case, ready[0])
        work = _work(case, arrays, ready)
        works = {"kernel": work, "copy": self._copy(read + written), "empty": _empty()}
        if read + written <= WARM_BYTES:
            works |= {"warm": replace(work, cold=False), "warm empty": replace(_empty(), cold=False)}
        samples = self.clock.compare(works, self.rounds)
        kernel, copy, empty = (Spread.of(samples[name]) for name in ("kernel", "copy", "empty"))
        rate = _rate(read + written, kernel.median)
        figures: Figures = {
            **_named("kernel", kernel), "samples": len(samples["kernel"]), "launches": len(ready),
            "read_bytes": read, "written_bytes": written, "gb_per_s": rate,
            "percent_of_copy": 100 * rate / self.findings.copy["gb_per_s"],
            **_named("copy", copy), "percent_of_copy_of_as_many_bytes": 100 * copy.median / kernel.median,
            "empty_us": empty.median, **_named("above_empty", _above(samples["kernel"], samples["empty"])),
        }  # fmt: skip
        if "warm" in samples:
            figures |= _named("warm", Spread.of(samples["warm"]))
            figures |= _named("warm_above_empty", _above(samples["warm"], samples["warm empty"]))
        self.findings.kernels[case] = figures
        self.kept.add(*_row(case, "kernel"), figures)
        warm = f", warm {figures['warm_us']:.2f}" if "warm_us" in figures else ""
        percent = f"{figures['percent_of_copy']:.0f} % of the copy"
        self.say(f"{case.name}, {case.shape}: {kernel.median:.2f} us{warm}, {percent}")

    def measure_rivals(self, case: Case) -> None:
        """One kernel and the same update in torch, eager and compiled, interleaved."""
        self._pass(case)
        arrays = Arrays(case, self.device)
        kernel = _work(case, arrays, launches(case, arrays))
        works = {"kernel": kernel}
        for name, update in rivals.rivals(case, arrays, self.compiler).items():
            kernel.prepare()
            rivals.check(name, case, arrays, kernel.run, update)
            works[name] = Work(update, kernel.prepare)
        samples = self.clock.compare(works, self.rounds)
        figures: Figures = {"samples": len(samples["kernel"])}
        for name in works:
            figures |= _named(name, Spread.of(samples[name]))
            if name != "kernel":
                times = Spread.of(ratios(samples[name], samples["kernel"]))
                figures |= {f"times_{name}": times.median, f"times_{name}_q1": times.q1, f"times_{name}_q3": times.q3}
        self.findings.rivals[case] = figures
        self.kept.add(*_row(case, "rivals"), figures)
        times = f"eager {figures['times_eager']:.2f}, compiled {figures['times_compiled']:.2f} times as long"
        self.say(f"{case.name}, {case.shape} against torch: {figures['kernel_us']:.2f} us, {times}")

    def _found(self, case: str, settings: Mapping[str, object], into: Figures) -> bool:
        """Whether there is such a row already, whose figures are then taken."""
        into |= (row := self.kept.find(case, settings) or {})
        return bool(row)

    def _measured(self, case: Case, kind: str) -> bool:
        figures: Figures = {}
        if self._found(*_row(case, kind), figures):
            (self.findings.rivals if kind == "rivals" else self.findings.kernels)[case] = figures
        return bool(figures)

    def _pass(self, case: Case) -> None:
        """The gate, once for the same compiled kernels."""
        if case.name not in self._passed:
            gate.check(case, self.device)
            self._passed.add(case.name)

    def _guarded(self, name: str, measure: Callable[[Case], None], case: Case) -> None:
        try:
            measure(case)
        except torch.OutOfMemoryError:
            self.findings.left_out.append(f"{name} (memory)")
        except gate.GateError as error:
            self.findings.wrong.append(str(error))
        except Exception as error:  # noqa: BLE001  # shown in full; the other cases are still worth the machine's time
            traceback.print_exc()
            self.findings.wrong.append(f"{name}: {type(error).__name__}")

    def _copy(self, size: int) -> Work:
        """A copy on the device that reads and writes `size` bytes together."""
        source = torch.ones(max(1, size // 8), device=self.device)
        target = torch.empty_like(source)
        return Work(lambda: target.copy_(source))


def _row(case: Case, kind: str) -> tuple[str, dict[str, object]]:
    """Name and settings of a case's row."""
    return f"gpu {case.name}" + (" against torch" if kind == "rivals" else ""), {**case.settings, **COLD}


def _above(samples: list[float], empty: list[float]) -> Spread:
    return Spread.of([one - other for one, other in zip(samples, empty, strict=True)])


def _work(case: Case, arrays: Arrays, ready: list[Launch]) -> Work:
    def run() -> None:
        for launch in ready:
            launch.run()

    # Step by step the state would leave its range.
    return Work(run, lambda: arrays.x.copy_(arrays.first)) if case.kernel == "step" else Work(run)


def _empty() -> Work:
    return Work(lambda: nothing[1,]())


def _named(name: str, spread: Spread) -> dict[str, float]:
    return {f"{name}_us": spread.median, f"{name}_q1_us": spread.q1, f"{name}_q3_us": spread.q3}


def _rate(size: int, microseconds: float) -> float:
    """GB/s."""
    return size / microseconds / 1e3
