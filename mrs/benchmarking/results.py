"""What `mrs-trt bench --json` writes and `mrs-trt report` reads: one file, for one plan on one machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mrs.runtime.errors import InputError
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.regular_files import open_regular

FORMAT, FORMAT_VERSION = "mrs-trt results", 1
# Pictures within are small; a file beyond this is none of ours.
MOST_BYTES = 64 << 20
# Who did what was timed: the plan itself, and its rivals.
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured.

    Attributes:
        processor: its name.
        instructions: those that engines choose by, such as avx2.
        threads: that the process may run on.
        memory_bytes: of the machine.
        gpu: its name; None for a plan that ran on the processor.
        system: of the operating system, such as Linux 6.1.
        load: of the machine when the measurement began (the load average of a minute); None where it is not told.
    """

    processor: str
    instructions: tuple[str, ...]
    threads: int
    memory_bytes: int
    gpu: str | None
    system: str
    load: float | None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row of the table by which a build chose, as `mrs-trt inspect` prints it.

    Attributes:
        backend, precision, variant: what was tried.
        milliseconds: of one evaluation; None where it was not timed.
        parity_db: PSNR against float32; None where it was not measured.
        verdict: why it was taken or not, in words.
        chosen: whether it is the plan's.
    """

    backend: str
    precision: str
    variant: str
    milliseconds: float | None
    parity_db: float | None
    verdict: str
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What was measured.

    Attributes:
        name: of the plan's file.
        sha256: of the plan's file.
        network: in words, such as ConditionalNAFNet, width 64, 1,1,1,28.
        solver: in words, such as ode order 2.
        evaluations: of the network for each restore.
        backend, precision: what restored.
        height, width, batch: for which it was built.
        build_seconds: that the build took; None for a plan that does not say.
        candidates: the parity table of the build.
        warnings: of the build's own verdict.
    """

    name: str
    sha256: str
    network: str
    solver: str
    evaluations: int
    backend: str
    precision: str
    height: int
    width: int
    batch: int
    build_seconds: float | None
    candidates: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Whether what was timed computes what it should, without which no time is shown.

    Attributes:
        psnr_db: of its picture against the reference's; None for equal pictures.
        reference: in words, such as torch float32, same solver and noise.
        bar_db: that it must reach.
        passes: whether it does.
    """

    psnr_db: float | None
    reference: str
    bar_db: float
    passes: bool


@dataclass(frozen=True, kw_only=True)
class Case:
    """Times of one work. Cases of one group ran in turn, one after the other in each round.

    Attributes:
        work: "restore" for whole restores, pictures in memory to results in memory; "network" for as many bare
            evaluations, which is the floor of a restore.
        by: "ours", or the rival's name as `--against` takes it.
        label: who that is, in words.
        backend, precision: that evaluate the network.
        height, width, batch: of the pictures.
        evaluations: of the network in each sample.
        group: number of the rounds that it shares with others.
        milliseconds: a sample for each round.
        setup_seconds: to load and compile before the first sample; None where another's engine was used.
        parity: the gate; None for bare evaluations, whose chain passed it.
    """

    work: str
    by: str
    label: str
    backend: str
    precision: str
    height: int
    width: int
    batch: int
    evaluations: int
    group: int
    milliseconds: tuple[float, ...]
    setup_seconds: float | None = None
    parity: Parity | None = None


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Pictures per second, with several restored at a time.

    Attributes:
        workers: of the restorer, each with a share of the threads.
        batch, height, width: of each call.
        pictures_per_second: a sample for each round.
    """

    workers: int
    batch: int
    height: int
    width: int
    pictures_per_second: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Start:
    """Whole processes from their start on, a sample for each process.

    Attributes:
        first_result_ms: from the process's start to its first restored picture.
        load_ms: of `mrs.load` in it.
        first_restore_ms: of the first restore in it, with what it compiles.
        peak_memory_bytes: the most that the process had resident.
    """

    first_result_ms: tuple[float, ...]
    load_ms: tuple[float, ...]
    first_restore_ms: tuple[float, ...]
    peak_memory_bytes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The plan's own restore timed again in a process of its own, by which two files are compared: samples of one
    process are too much alike. A sample for each round, in which all three ran in turn.

    Attributes:
        restore_ms: of whole restores.
        network_ms: of as many bare evaluations; () where it was not timed.
        yardstick_ms: of a fixed work that no version of this program changes, so that a machine that is slower today
            is told from a plan that is; () on a GPU.
        waited: share of the time, 0 to 1, that its threads waited for processors that others had; None where the
            system does not tell.
    """

    restore_ms: tuple[float, ...]
    network_ms: tuple[float, ...] = ()
    yardstick_ms: tuple[float, ...] = ()
    waited: float | None = None


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of one restore.

    Attributes:
        name: in words: start, network, step, finish, decode, encode, conditioner, ...
        step: of the solver, from 0; None for what is done once.
        start_ms: since the restore began.
        milliseconds: that it took.
        lane: the thread or worker that did it.
    """

    name: str
    start_ms: float
    milliseconds: float
    lane: str
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How near restored pictures come to the clean ones.

    Attributes:
        by: "ours", or the rival's name, or "solver" for another one on the plan's network, or "degraded" for pictures
            as they were given.
        label: who that is, in words.
        solver: in words; "" for pictures as they were given.
        evaluations: of the network; 0 for pictures as they were given.
        metrics: by name (psnr, ssim, psnr_y, ssim_y, haarpsi, gmsd, fsim, lpips ...), a value for each picture, the
            mean over the noises that it was restored with.
        milliseconds: median of a restore at the plan's size, for speed against quality; None where not timed.
        fid: of all pictures together; None where it was not measured.
        intervals: of each metric's mean, of 95 %; without those of too few pictures.
        against_ours: of each metric the mean difference from "ours", picture by picture, and its interval's ends.
        seeds: noises that each picture was restored with.
        between_seeds: standard deviation of each metric's mean from one noise to the next; empty for one noise.
    """

    by: str
    label: str
    solver: str
    evaluations: int
    metrics: dict[str, tuple[float, ...]]
    milliseconds: float | None = None
    fid: float | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    against_ours: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    seeds: int = 1
    between_seeds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture for the report.

    Attributes:
        name: of the file that it is of.
        role: "degraded", "restored", "clean" or "state", the solver's state.
        step: evaluations done, for states; else None.
        media_type: image/webp, image/jpeg or image/png.
        height, width: in pixels.
        data: the file.
    """

    name: str
    role: str
    media_type: str
    height: int
    width: int
    data: bytes
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that one `mrs-trt bench` found.

    Attributes:
        date: ISO 8601, UTC.
        command: that measures it again.
        commit: of the checkout; "" outside of one.
        versions: of mrs-trt, Python and the libraries, by name.
        machine, plan: where, and what.
        cases: times.
        throughput: with several workers.
        start: whole processes; None where not measured.
        repeats: the first case again, a process each; these are the processes of `start`.
        timeline: of one restore with about the median time.
        quality: where clean pictures were given.
        data: on what pictures quality was measured, in words; "" for none.
        pictures: to show.
        notes: what a reader must know: what was left out and why.
    """

    date: str
    command: str
    commit: str
    versions: dict[str, str]
    machine: Machine
    plan: PlanFacts
    cases: tuple[Case, ...]
    throughput: tuple[Throughput, ...] = ()
    start: Start | None = None
    repeats: tuple[Repeat, ...] = ()
    timeline: tuple[Span, ...] = ()
    quality: tuple[Quality, ...] = ()
    data: str = ""
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    def save(self, path: Path) -> None:
        """Write JSON; the file appears whole or not at all.

        Raises:
            InputError: where it cannot be written.
        """
        content = msgspec.json.format(msgspec.json.encode(self), indent=1)
        with replacing(path, overwrite=True) as file:
            file.write(content + b"\n")


def read(path: Path) -> Results:
    """Results as they were saved.

    Raises:
        InputError: for a file that cannot be read, of another format or version, or with a field that is missing,
            of the wrong type, or not finite.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES >> 20} MB, which no results have")
    try:
        results = msgspec.json.decode(content, type=Results)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            f"{path} holds no results: {error}", hint="make some with: mrs-trt bench PLAN --json FILE"
        ) from None
    if (results.format, results.format_version) != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{path} has format {results.format} {results.format_version}, "
            f"this program reads {FORMAT} {FORMAT_VERSION}",
            hint="measure again with this version",
        )
    return results
