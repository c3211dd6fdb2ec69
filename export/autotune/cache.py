"""What was measured on this machine, kept so that an equal build measures nothing again.

One JSON file per question under the user's cache folder, named by the SHA-256 of all that the answer depends on. A
file that is missing, damaged or of another version is measured anew and replaced.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple, fields
from pathlib import Path

from mrs.export.autotune.autotune import Measured
from mrs.export.autotune.budget import Fit
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.select import Selection
from mrs.export.autotune.variants import VariantTime
from mrs.export.autotune.verdict import Verdict
from mrs.export.autotune.workload import Target, Workload
from mrs.export.graph_variant import GraphVariant
from mrs.runtime import backends
from mrs.runtime.chain import Loop
from mrs.runtime.errors import InputError
from mrs.runtime.manifest import JsonObject
from mrs.runtime.system import machine
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.libraries import installed_version
from mrs.runtime.system.regular_files import open_regular
from mrs.runtime.system.user_cache import NO_FOLDER, user_cache

# Raised when what is measured, or how, changes.
VERSION = 4
# A measurement is some kilobytes.
LIMIT = 1 << 20
# What reading a file of another program, or half of one, may raise.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, InputError)

Report = Callable[[str], None]


def key(workload: Workload, target: Target, loops: Mapping[int, Loop], max_latency: float | None) -> str:
    """The SHA-256 of a question, in hexadecimal digits.

    Args:
        workload: what is measured.
        target: for what.
        loops: all solvers that may be chosen, by their evaluations.
        max_latency: most milliseconds of a restore, if any.
    """
    digest = hashlib.sha256()

    def add(*values: object) -> None:
        # With their lengths, so that no two lists of values are one.
        for value in values:
            content = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(len(content).to_bytes(8, "little") + content)

    settings = target.settings
    add(VERSION, workload.shape, target.backend, target.precision, target.device, settings.threads, settings.options)
    add(max_latency, installed_version("nvidia-modelopt"))
    for engine in backends.available():
        add(sorted(machine.fingerprint(engine.name, engine.version(), engine.device).items()))
        add(engine.precisions(), engine.variants)
    add(workload.conditioner or b"")
    codec = workload.reference.codec
    add(*(() if codec is None else astuple(codec)))
    for variant in sorted(workload.graphs, key=str):
        add(str(variant), workload.graphs[variant])
    for loop in (*loops.values(), workload.reference):
        table = loop.table
        add(len(table.rows), [tuple(map(float, row)) for row in table.rows], float(table.start), table.clamp)
        add(loop.modulation.shape, loop.modulation.tobytes())
    for pair in workload.pairs:
        for picture in (pair.degraded, pair.clean):
            add(None if picture is None else picture.shape, b"" if picture is None else picture.tobytes())
    return digest.hexdigest()


def load(key: str, report: Report) -> Measured | None:
    """The answer to a question; None where there is none."""
    with suppress(*DAMAGE):
        with open_regular(_file(key)) as file:
            saved = json.loads(file.read(LIMIT))
        candidates = tuple(_candidate(entry) for entry in saved["candidates"])
        variants = tuple(
            VariantTime(**{**entry, "quartiles_ms": tuple(entry["quartiles_ms"])}) for entry in saved["variants"]
        )
        chosen = candidates[saved["chosen"]]
        GraphVariant.parse(chosen.variant)
        verdict = Verdict.from_dict(saved["verdict"])
        measured = Measured(
            Selection(candidates, chosen, saved["discretisation_db"], verdict, variants),
            int(saved["steps"]),
            None if saved["max_ms"] is None else float(saved["max_ms"]),
            tuple(Fit(**entry) for entry in saved["evaluations"]),
            str(saved["measured_at"]),
            tuple((int(side), float(each)) for side, each in saved["pace"]),
        )
        report(f"measured here before, at {measured.measured_at}")
        return measured
    return None


def store(key: str, measured: Measured, report: Report) -> Measured:
    """Keep an answer and return it; where it cannot be kept, a line of progress says why, and a build goes on."""
    saved = {
        **measured.selection.to_dict(),
        "steps": measured.steps,
        "max_ms": measured.max_ms,
        "evaluations": [fit.to_dict() for fit in measured.evaluations],
        "measured_at": measured.measured_at,
        "pace": measured.pace,
        "verdict": measured.selection.verdict.to_dict(),
    }
    try:
        _file(key).parent.mkdir(parents=True, exist_ok=True)
        with replacing(_file(key)) as file:
            file.write(json.dumps(saved, indent=1, allow_nan=False).encode())
    except (OSError, InputError) as error:
        report(f"what was measured is not kept for the next build: {error}")
    return measured


def _file(key: str) -> Path:
    """Where an answer is kept.

    Raises:
        InputError: where this user has no folder for it.
    """
    folder = user_cache()
    if folder is None:
        raise InputError(NO_FOLDER)
    return folder / "selections" / f"{key}.json"


def _candidate(entry: JsonObject) -> Candidate:
    known = {field.name for field in fields(Candidate)}
    if set(entry) != known:
        raise ValueError("a candidate of another version")
    latency, quartiles = entry["latency_ms"], entry["quartiles_ms"]
    return Candidate(
        **{
            **entry,
            "latency_ms": math.nan if latency is None else latency,
            "quartiles_ms": tuple(math.nan if each is None else each for each in quartiles),
        }
    )
