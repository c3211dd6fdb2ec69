"""What was measured on this machine, kept so that an equal build measures nothing again.

One JSON file per question under the user's cache folder, named by the SHA-256 of all that the answer depends on. A
file that is missing, damaged or of another version is measured anew and replaced.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mrs.export.forms import FormTime
from mrs.export.graph import GraphShape
from mrs.export.latency import Fit
from mrs.export.selection import Candidate, Pair, Selection
from mrs.export.verdict import Verdict
from mrs.runtime import backends, machine
from mrs.runtime.atomic import replacing
from mrs.runtime.chains import Loop
from mrs.runtime.errors import InputError
from mrs.runtime.regular_files import open_regular
from mrs.runtime.user_cache import NO_FOLDER, user_cache

# Raised when what is measured, or how, changes.
VERSION = 2
# A measurement is some kilobytes.
LIMIT = 1 << 20
# What reading a file of another program, or half of one, may raise.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, InputError)


@dataclass(frozen=True)
class Measured:
    """What a build found out.

    Attributes:
        selection: all candidates and the chosen one.
        steps: the number of evaluations.
        evaluations: what there was to choose from where a time was given, the best first.
        measured_at: ISO 8601.
    """

    selection: Selection
    steps: int
    evaluations: tuple[Fit, ...]
    measured_at: str


def key(
    graphs: Mapping[GraphShape, bytes],
    loops: Sequence[Loop],
    pairs: Sequence[Pair],
    shape: tuple[int, int, int],
    threads: int,
    *choice: str | float | None,
) -> str:
    """The SHA-256 of a question, in hexadecimal digits.

    Args:
        graphs: the network in every shape.
        loops: all solvers that take part.
        pairs: calibration pictures.
        shape: (N, H, W) at which latency is measured.
        threads: most threads to use.
        choice: what is asked for: backend, precision, device, most milliseconds.
    """
    digest = hashlib.sha256()

    def add(*values: object) -> None:
        # With their lengths, so that no two lists of values are one.
        for value in values:
            content = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(len(content).to_bytes(8, "little") + content)

    add(VERSION, shape, threads, choice)
    for engine in backends.available():
        add(sorted(machine.fingerprint(engine.name, engine.version(), engine.device).items()))
        add(engine.precisions(), engine.forms)
    for form in sorted(graphs, key=str):
        add(str(form), graphs[form])
    for loop in loops:
        add(len(loop.rows), [tuple(map(float, row)) for row in loop.rows], float(loop.start), loop.clamp)
        add(loop.modulation.shape, loop.modulation.tobytes())
    for pair in pairs:
        for picture in (pair.degraded, pair.clean):
            add(None if picture is None else picture.shape, b"" if picture is None else picture.tobytes())
    return digest.hexdigest()


def recall(question: str) -> Measured | None:
    """The answer to a question; None where there is none."""
    with suppress(*DAMAGE):
        with open_regular(_file(question)) as file:
            saved = json.loads(file.read(LIMIT))
        candidates = tuple(_candidate(entry) for entry in saved["candidates"])
        forms = tuple(FormTime(**{**entry, "quartiles_ms": tuple(entry["quartiles_ms"])}) for entry in saved["forms"])
        chosen = candidates[saved["chosen"]]
        GraphShape.parse(chosen.form)
        return Measured(
            Selection(candidates, chosen, saved["discretisation_db"], Verdict.from_dict(saved["verdict"]), forms),
            int(saved["steps"]),
            tuple(Fit(**entry) for entry in saved["evaluations"]),
            str(saved["measured_at"]),
        )
    return None


def keep(question: str, measured: Measured) -> str | None:
    """Keep an answer. Why it could not be kept, in one line, or None: a build goes on without."""
    saved = {
        **measured.selection.to_dict(),
        "steps": measured.steps,
        "evaluations": [fit.to_dict() for fit in measured.evaluations],
        "measured_at": measured.measured_at,
        "verdict": measured.selection.verdict.to_dict(),
    }
    try:
        _file(question).parent.mkdir(parents=True, exist_ok=True)
        with replacing(_file(question)) as file:
            file.write(json.dumps(saved, indent=1, allow_nan=False).encode())
    except (OSError, InputError) as error:
        return f"what was measured is not kept for the next build: {error}"
    return None


def _file(question: str) -> Path:
    """Where an answer is kept.

    Raises:
        InputError: where this user has no folder for it.
    """
    folder = user_cache()
    if folder is None:
        raise InputError(NO_FOLDER)
    return folder / "selections" / f"{question}.json"


def _candidate(entry: Mapping[str, Any]) -> Candidate:
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
