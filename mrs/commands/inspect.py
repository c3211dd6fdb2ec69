"""`mrs-trt inspect`: what a plan holds, and why its backend was chosen."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from mrs.commands import arguments
from mrs.kernels.terminal import emit
from mrs.runtime.errors import PlanError

if TYPE_CHECKING:
    from mrs.runtime.manifest import JsonObject


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "inspect", help="print a plan's solver, backend, parity and latency",
        description="Print what a plan holds: network, schedule, solver rows, and every candidate that was measured.",
    )  # fmt: skip
    arguments.add_plan(parser)
    parser.add_argument("--json", action="store_true", help="print the manifest itself")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the manifest, as text or JSON."""
    from mrs.runtime.plan import read_plan

    # The whole plan is read, so that a damaged one is not described as if it were sound.
    manifest = read_plan(options.plan).manifest
    try:
        text = json.dumps(manifest, indent=1) if options.json else f"{summary(manifest)}\n\n{rows(manifest)}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Restoring asks for less than what is printed here.
        raise PlanError(
            f"plan {options.plan} does not describe itself: {error}", hint="build it again, or use --json"
        ) from None
    emit(text)
    return 0


def summary(manifest: JsonObject) -> str:
    """Everything but the rows, as aligned lines and the table of candidates."""
    network, schedule, solver = manifest["network"], manifest["schedule"], manifest["solver"]
    selection = manifest["selection"]
    count, height, width = manifest["shape"]
    gap = selection["discretisation_db"]
    lines = [
        *((name, _file(manifest[name])) for name in ("checkpoint", "encoder", "autoencoder") if name in manifest),
        *((name, manifest[name]) for name in ("preset",) if name in manifest),
        ("network", f"{network['architecture']} {network['summary']}"),
        *([("latent", manifest["latent"]["summary"])] if "latent" in manifest else []),
        ("schedule", _schedule(schedule)),
        *([("pictures", f"with noise of {manifest['noise_sigma']:g}")] if "noise_sigma" in manifest else []),
        ("solver", _solver(solver)),
        *(
            [("enlarged", f"{manifest['upscale']} times, bicubically, before all else")]
            if "upscale" in manifest
            else []
        ),
        (
            "compiled for",
            f"{height}x{width}{_latent(manifest)}, batch {count}, {manifest['threads']} threads{_further(manifest)}",
        ),
        ("machine", f"{manifest['fingerprint']['processor']} ({manifest['fingerprint']['backend']})"),
        ("chosen", _name(manifest) + _exactly(manifest["precision"])),
        *([("large", _large(manifest))] if "pace" in manifest else []),
        ("made", f"{manifest['made_at']} by {manifest['made_by']}"),
    ]
    text = [f"{label:<13} {value}" for label, value in lines]
    text += [
        "",
        f"{'candidate':<24}{'variant':<20}{'whole restore, ms':>20}{'parity, dB':>12}{'truth, dB':>11}  verdict",
    ]
    for index, candidate in enumerate(selection["candidates"]):
        text.append(
            f"{'*' if index == selection['chosen'] else ' '}{_name(candidate):<23}"
            f"{candidate['variant']:<20}{_time(candidate):>20}"
            f"{_db(candidate['parity_db'], 'equal' if candidate['passed'] else '-'):>12}"
            f"{_db(candidate['truth_db'], '-', '+.2f'):>11}  {candidate['reason']}"
        )
    pictures = selection["calibration_pictures"]
    distance = "equals" if gap is None else f"is {gap:.1f} dB from"
    text.append(f"float32 at these steps {distance} its 100-step solution ({pictures} pictures)")
    text += ["parity: PSNR to float32 at the same steps and noise; truth: change of the PSNR to the clean pictures"]
    text += [f"warning: {line}" for line in manifest.get("verdict", {}).get("warnings", [])]
    text += ["", *_why(manifest)]
    variants = selection.get("variants", [])
    if variants:
        text += ["", f"{'engine':<24}{'variant':<20}{'two evaluations, ms':>20}"]
        fastest = {
            _name(variant): min(each["latency_ms"] for each in variants if _name(each) == _name(variant))
            for variant in variants
        }
        for variant in variants:
            mark = "*" if variant["latency_ms"] == fastest[_name(variant)] else " "
            text.append(f"{mark}{_name(variant):<23}{variant['variant']:<20}{_time(variant):>20}")
    if "latency" in manifest:
        text += ["", *_evaluations(manifest)]
    return "\n".join(text)


def _latent(manifest: JsonObject) -> str:
    """What the network's sizes are sizes of, where not of pictures."""
    if "latent" not in manifest:
        return ""
    (_, *sides), scale = manifest["shape"], manifest["latent"]["scale"]
    return f" latents of {'x'.join(str(scale * side) for side in sides)}"


def _large(manifest: JsonObject) -> str:
    """What larger pictures take, and from where on tiles take less."""
    from mrs.runtime.pace import Pace, crossings

    points = manifest["pace"]
    text = f"{', '.join(f'{each:.2f}' for _, each in points)} us a pixel and evaluation at "
    text += f"{', '.join(str(side) for side, _ in points)} squared"
    cut = ", ".join(f"{side} of {tile}" for side, tile in crossings(Pace(points), manifest["network"]["multiple"]))
    return f"{text}; faster in tiles: {cut}" if cut else f"{text}; whole pictures are fastest"


def _further(manifest: JsonObject) -> str:
    """For which other sizes there are engines."""
    shapes = manifest.get("further_shapes", [])
    return f"; also {', '.join(f'{height}x{width}' for _, height, width in shapes)}" if shapes else ""


def _why(manifest: JsonObject) -> list[str]:
    """The choice in words."""
    place = manifest["selection"]["chosen"]
    if type(place) is not int or place < 0:
        raise ValueError(f"selection.chosen is {place!r:.20}")
    chosen = manifest["selection"]["candidates"][place]
    ran = [entry for entry in manifest["selection"]["candidates"] if entry["latency_ms"] is not None]
    passed = [entry for entry in ran if entry["passed"]]
    if not chosen["passed"]:
        return [f"why: {_name(chosen)} was asked for by name; it fails parity"]
    others = sorted((entry for entry in passed if entry is not chosen), key=lambda entry: entry["latency_ms"])
    if not others:
        text = f"why: {_name(chosen)} is the only one that {'ran' if len(ran) == 1 else 'passes parity'}"
    else:
        times = others[0]["latency_ms"] / chosen["latency_ms"]
        text = f"why: {_name(chosen)} is the fastest of {len(passed)} that pass parity, {times:.2f} times faster than "
        text += f"{_name(others[0])}"
    faster = [_name(entry) for entry in ran if not entry["passed"] and entry["latency_ms"] < chosen["latency_ms"]]
    lines = [text, *([f"     faster, but without parity: {', '.join(dict.fromkeys(faster))}"] if faster else [])]
    measured = manifest["selection"].get("measured_at")
    return [
        *lines,
        *([f"     measured {measured}, whole restores interleaved; medians (quartiles)"] if measured else []),
    ]


def _exactly(precision: str) -> str:
    """What a name such as `bf16-after-2` means."""
    after = precision.partition("-after-")[2]
    return f" ({after} evaluation{'s' * (after != '1')} in float32 before)" if after else ""


def _name(entry: JsonObject) -> str:
    return f"{entry['backend']} {entry['precision']}"


def _time(entry: JsonObject) -> str:
    low, high = entry["quartiles_ms"]
    return "not run" if low is None else f"{entry['latency_ms']:.1f} ({low:.1f}-{high:.1f})"


def _evaluations(manifest: JsonObject) -> list[str]:
    """Why so many evaluations: all that fit into the time that was given."""
    fits = sorted(manifest["latency"]["evaluations"], key=lambda fit: fit["steps"])
    of = "to the clean pictures" if fits[0]["of_truth"] else "to 100 steps"
    lines = [f"evaluations within {manifest['latency']['max_ms']:g} ms, and PSNR {of}"]
    for fit in fits:
        mark = "*" if fit["steps"] == manifest["solver"]["steps"] else " "
        lines.append(f"{mark}{fit['steps']:>3} {fit['latency_ms']:>10.1f} ms {_db(fit['quality_db'], 'equal'):>8} dB")
    return lines


def rows(manifest: JsonObject) -> str:
    """The solver's rows as a table of weights."""
    from mrs.kernels.table import Row

    table = manifest["table"]
    clamp = {"none": "", "unit": ", q0 clamped to [0, 1]", "threshold": ", q0 by the dynamic threshold"}[table["clamp"]]
    text = [f"start: mu + {table['start']:.6f} z{clamp}"]
    # Weights that no row uses would only make the table wide.
    used = [i for i in range(len(Row._fields)) if i < 6 or any(row[i] for row in table["rows"])]
    text.append(f"{'t':>8} {'to':>8} " + "".join(f"{Row._fields[i]:>11}" for i in used))
    for t, to, row in zip(table["times"], table["times"][1:], table["rows"], strict=False):
        text.append(f"{t:8.3f} {to:8.3f} " + "".join(f"{row[i]:11.5f}" for i in used))
    return "\n".join(text)


def _file(said: JsonObject) -> str:
    return f"{said['name']}  sha256 {said['sha256'][:16]}..."


def _schedule(schedule: JsonObject) -> str:
    text = "denoising, " if schedule.get("process") == "denoising" else ""
    text += "{kind}, max_sigma {max_sigma:g}, eps {eps:g}, T {T}, convention {convention}".format(**schedule)
    return text + (", exact between whole times" if schedule["interpolation"] == "exact" else "")


def _solver(solver: JsonObject) -> str:
    text = (
        "{method} order {order}, {steps} evaluations, {spacing}, {prediction} prediction, "
        "last step {last_step}, clamp {clamp}".format(**solver)
    )
    for name in ("stochasticity", "momentum", "start_time"):
        if solver[name]:
            text += f", {name.replace('_', ' ')} {solver[name]:g}"
    for name in ("noise_scale", "start_noise"):
        # Plans from before they were there have all of the noise.
        if solver.get(name, 1) != 1:
            text += f", {name.replace('_', ' ')} {solver[name]:g}"
    text += ", fitted weights" if solver["weights"] else ""
    return text + (", denoise last" if solver["denoise_last"] else "")


def _db(value: float | None, missing: str, form: str = ".1f") -> str:
    return missing if value is None else format(value, form)
