"""What results say of the plan, the machine and the software, besides times."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mrs._version import __version__
from mrs.benchmarking.results import Candidate, Machine, Parity, PlanFacts
from mrs.benchmarking.settings import Size
from mrs.export.autotune.parity import ENOUGH, MARGIN
from mrs.runtime.manifest import JsonObject
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine

LIBRARIES = ("numpy", "openvino", "onnxruntime", "torch", "triton", "tensorrt")
REFERENCE = "float32, same solver and noise; measured by the build on {pictures} pictures"
# Rows of results, which measuring adds to, are no difference.
KEPT = (":(exclude,top)benchmarks/results",)
# Seconds for git, which may wait for a disk.
PATIENCE = 10


def machine_of(restorer: Restorer) -> Machine:
    """This machine, as a restorer uses it."""
    try:
        load: float | None = os.getloadavg()[0]
    except (OSError, AttributeError):
        load = None
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        memory = 0
    return Machine(
        processor=machine.processor(), instructions=machine.instructions(), threads=restorer.threads,
        memory_bytes=memory, gpu=machine.gpu() if restorer.device == "cuda" else None,
        system=system(), load=load,
    )  # fmt: skip


def plan_facts(path: Path, restorer: Restorer, size: Size) -> PlanFacts:
    """A plan, as it is run: engine, precision and size are those in use."""
    plan, raw = restorer.plan, restorer.plan.manifest
    network, batch = raw.get("network", {}), size[0]
    seconds = raw.get("build_seconds")
    return PlanFacts(
        name=path.name,
        sha256=_digest(path),
        network=f"{network.get('architecture', 'a network')} {network.get('summary', '')}".strip(),
        solver=_solver(raw.get("solver", {})),
        evaluations=len(plan.table.rows),
        backend=restorer.backend,
        precision=restorer.precision,
        height=size[1],
        width=size[2],
        batch=batch,
        build_seconds=float(seconds) if isinstance(seconds, int | float) else None,
        candidates=_candidates(raw),
        warnings=plan.facts.warnings,
    )


def system() -> str:
    """The operating system with the first two numbers of its version, such as Linux 6.1: the rest names a vendor."""
    return f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"


def versions() -> dict[str, str]:
    """Of this program, Python, and the libraries that are installed."""
    found = {"mrs-trt": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Short name of the checkout's commit, with + where tracked files differ from it; "" where this is no checkout."""
    own = Path(__file__).resolve()
    try:
        # An installation within somebody else's checkout is none of it.
        _git(own.parent, "ls-files", "--error-unmatch", own.name)
        head = _git(own.parent, "rev-parse", "--short", "HEAD")
        changed = _git(own.parent, "status", "--porcelain", "--untracked-files=no", "--", ":/", *KEPT)
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + "+" * bool(changed)


def parity_of(plan: Plan, backend: str, precision: str) -> Parity | None:
    """What the build measured of an engine; None where it did not measure this one."""
    selection = plan.manifest.get("selection")
    if not isinstance(selection, dict):
        return None
    gap = selection.get("discretisation_db")
    bar = ENOUGH if gap is None else min(ENOUGH, gap + MARGIN)
    entries = selection.get("candidates", [])
    chosen = selection.get("chosen")
    order = sorted(range(len(entries)), key=lambda index: index != chosen)
    for entry in (entries[index] for index in order):
        found, passed = entry.get("parity_db"), bool(entry.get("passed"))
        # No figure of one that passed is that of equal pictures.
        if (entry.get("backend"), entry.get("precision")) == (backend, precision) and (passed or found is not None):
            return Parity(
                psnr_db=None if found is None else float(found),
                reference=REFERENCE.format(pictures=selection.get("calibration_pictures", "the")),
                bar_db=float(bar),
                passes=passed,
            )
    return None


def _git(folder: Path, *arguments: str) -> str:
    command = ("git", "--no-optional-locks", *arguments)
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout.strip()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _solver(said: JsonObject) -> str:
    text = f"{said.get('method', 'unknown')} order {said.get('order', '?')}, {said.get('spacing', '')}"
    return text.removesuffix(", ") + (", fitted weights" if said.get("weights") else "")


def _candidates(manifest: JsonObject) -> tuple[Candidate, ...]:
    selection = manifest.get("selection")
    if not isinstance(selection, dict):
        return ()
    chosen = selection.get("chosen")
    return tuple(
        Candidate(
            backend=str(entry.get("backend")), precision=str(entry.get("precision")),
            variant=str(entry.get("variant", "")), milliseconds=_evaluation_ms(manifest, entry.get("latency_ms")),
            parity_db=entry.get("parity_db"), verdict=str(entry.get("reason", "")), chosen=index == chosen,
        )
        for index, entry in enumerate(selection.get("candidates", []))
    )  # fmt: skip


def _evaluation_ms(manifest: JsonObject, restore_ms: float | None) -> float | None:
    """Of one evaluation, with its share of all else, from a whole restore's time."""
    return None if restore_ms is None else restore_ms / len(manifest["table"]["rows"])
