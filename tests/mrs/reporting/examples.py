"""Results as `mrs-trt bench` finds them, made up: plausible ones, and the oddest that a file may hold."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from mrs.benchmarking.quality.intervals import interval
from mrs.benchmarking.results import (
    OURS,
    Candidate,
    Case,
    Machine,
    Parity,
    Picture,
    PlanFacts,
    Quality,
    Results,
    Span,
    Start,
    Throughput,
)

EVIL = '</script><script>window.stolen = 1</script><!-- "\'& \u2028 <img src=x onerror="window.stolen = 1">'
XEON = Machine(
    processor="Intel Xeon Processor (SapphireRapids)",
    instructions=("avx2", "avx512f", "amx_bf16"),
    threads=2,
    memory_bytes=24 << 30,
    gpu=None,
    system="Linux 6.1",
    load=0.1,
)
RIVALS = {
    # name: label, backend, precision, evaluations, times ours, parity
    "openvino": ("OpenVINO's bare loop", "openvino", "bf16", 10, 0.985, None),
    "compile": ("torch.compile, max-autotune", "torch", "bf16", 10, 2.05, 47.1),
    "eager": ("torch eager", "torch", "fp32", 10, 7.3, 84.0),
    "onnxruntime": ("ONNX Runtime", "onnxruntime", "fp32", 10, 5.1, 91.2),
    "published": ("published posterior sampler, torch eager", "torch", "fp32", 100, 71.0, 39.5),
}


def times(
    random: np.random.Generator, median: float, rounds: int, drift: np.ndarray | float = 1.0
) -> tuple[float, ...]:
    """Milliseconds, skewed as times are."""
    return tuple((median * drift * (1 + random.gamma(2, 0.012, rounds))).tolist())


def typical(seed: int = 0, *, speed: float = 1.0, name: str = "refusion-derain.mrsplan", rounds: int = 21) -> Results:
    """Everything that a file may hold, of one plan."""
    random = np.random.default_rng(seed)
    median = 1572 / speed
    drift = 1 + random.gamma(2, 0.03, rounds)
    passes = Parity(psnr_db=48.5, reference="torch float32, same solver and noise", bar_db=33.0, passes=True)
    ours = Case(
        work="restore", by=OURS, label="this plan", backend="openvino", precision="bf16", height=256, width=256,
        batch=1, evaluations=10, group=0, milliseconds=times(random, median, rounds, drift), setup_seconds=0.62,
        parity=passes,
    )  # fmt: skip
    cases = [ours, replace(ours, work="network", milliseconds=times(random, 0.99 * median, rounds, drift), parity=None)]
    for by, (label, backend, precision, evaluations, ratio, parity) in RIVALS.items():
        cases.append(
            replace(
                ours, by=by, label=label, backend=backend, precision=precision, evaluations=evaluations,
                work="restore" if parity else "network", setup_seconds=41.3 if by == "compile" else 2.1,
                milliseconds=times(random, ratio * median, rounds, drift),
                parity=parity and Parity(psnr_db=parity, reference="torch float32", bar_db=33.0, passes=True),
            )
        )  # fmt: skip
    for group, (side, each) in enumerate({128: 1.72, 512: 1.54, 1024: 1.87, 2048: 2.33}.items(), 1):
        sized = times(random, each * side * side / 1e3 * 15 / speed, 7)
        cases.append(replace(ours, height=side, width=side, group=group, milliseconds=sized))
    for group, (batch, gain) in enumerate({2: 0.94, 4: 0.9}.items(), 5):
        cases.append(replace(ours, batch=batch, group=group, milliseconds=times(random, batch * gain * median, 7)))
    throughput = tuple(
        Throughput(
            workers=workers, batch=1, height=256, width=256,
            pictures_per_second=tuple((gain * 1e3 / median * random.normal(1, 0.02, 7)).tolist()),
        )
        for workers, gain in {1: 1.0, 2: 1.16, 3: 1.14}.items()
    )  # fmt: skip
    start = Start(
        first_result_ms=tuple((800 * random.normal(1, 0.05, 5)).tolist()),
        load_ms=tuple((310 * random.normal(1, 0.05, 5)).tolist()),
        first_restore_ms=tuple((170 * random.normal(1, 0.05, 5)).tolist()),
        peak_memory_bytes=tuple(int(611e6 * factor) for factor in random.normal(1, 0.01, 5)),
    )
    return Results(
        date="2026-11-30T10:11:12Z", command=f"mrs-trt bench {name} --against eager,published --data kodak",
        commit="ac503bf",
        versions={"mrs-trt": "0.1.0", "Python": "3.11.2", "openvino": "2026.4.1", "torch": "2.13.0", "numpy": "2.4.6"},
        machine=XEON, plan=plan(name), cases=tuple(cases), throughput=throughput, start=start,
        timeline=timeline(median), quality=quality(random, median),
        data="24 pictures of Kodak, cropped to 256x256, degraded as the plan's network expects, seeds 0 and 1",
        pictures=pictures(random), notes=("the network has random weights: only its times mean something",),
    )  # fmt: skip


def plan(name: str) -> PlanFacts:
    candidates = (
        ("openvino", "bf16", "fused", 147.2, 48.5, "fastest that passes", True),
        ("openvino", "bf16", "plain", 151.9, 48.5, "slower", False),
        ("openvino", "fp32", "fused", 690.0, None, "slower", False),
        ("onnxruntime", "fp32", "fused", 812.0, 97.4, "slower", False),
        ("openvino", "int8", "fused", 92.1, 24.0, "fails parity: 24.0 dB to float32, 33.0 needed", False),
    )
    names = ("backend", "precision", "variant", "milliseconds", "parity_db", "verdict", "chosen")
    return PlanFacts(
        name=name, sha256="3f" * 32, network="ConditionalNAFNet, width 64, 1,1,1,28", solver="posterior",
        evaluations=10, backend="openvino", precision="bf16", height=256, width=256, batch=1, build_seconds=74.0,
        candidates=tuple(Candidate(**dict(zip(names, row, strict=True))) for row in candidates),
    )  # fmt: skip


def timeline(median: float) -> tuple[Span, ...]:
    spans = [Span(name="decode", start_ms=0, milliseconds=0.011 * median, lane="main")]
    at = spans[0].milliseconds
    for name, step, share in [
        ("start", None, 0.0004),
        *((part, step, share) for step in range(10) for part, share in (("network", 0.0965), ("step", 0.0004))),
        ("finish", None, 0.0002),
        ("encode", None, 0.04),
    ]:
        spans.append(
            Span(
                name=name,
                start_ms=at,
                milliseconds=share * median,
                lane="main" if name == "encode" else "worker 1",
                step=step,
            )
        )
        at += spans[-1].milliseconds
    return tuple(spans)


def quality(random: np.random.Generator, median: float) -> tuple[Quality, ...]:
    base = random.normal(0, 2.2, 24)

    def row(by: str, label: str, solver: str, evaluations: int, psnr: float, time: float | None) -> Quality:
        values = psnr + base + random.normal(0, 0.15, 24)
        metrics = {
            "psnr": values, "ssim": 1 - 10 ** (-values / 26), "psnr_y": values + 1.4, "gmsd": 10 ** (-values / 30),
        }  # fmt: skip
        return Quality(
            by=by, label=label, solver=solver, evaluations=evaluations, milliseconds=time,
            metrics={name: tuple(each.tolist()) for name, each in metrics.items()},
            intervals={name: ends for name, each in metrics.items() if (ends := interval(each.tolist()))},
        )  # fmt: skip

    rows = [row("degraded", "degraded pictures", "", 0, 24.1, None)]
    rows += [
        row(OURS if n == 10 else "solver", "this plan", "posterior", n, 31.6 - 4.0 / n, median * n / 10)
        for n in (3, 5, 10, 20)
    ]
    rows += [row("solver", "this plan", "ode order 2", n, 31.3 - 7.0 / n, median * n / 10) for n in (3, 5, 10, 20)]
    rows += [row("published", "published", "posterior", n, 31.6 - 4.2 / n, median * 7.1 * n / 10) for n in (10, 100)]
    rows += [row("published", "published", "euler-maruyama", 100, 31.1, median * 72)]
    ours = next(each for each in rows if each.by == OURS)
    return tuple(each if each is ours else against(each, ours) for each in rows)


def against(other: Quality, ours: Quality) -> Quality:
    """With its differences from ours."""
    differences = {name: np.subtract(each, ours.metrics[name]).tolist() for name, each in other.metrics.items()}
    found = {
        name: (float(np.mean(each)), *ends)
        for name, each in differences.items()
        if (ends := interval(each)) is not None
    }
    return replace(other, against_ours=found)


def pictures(random: np.random.Generator, side: int = 192) -> tuple[Picture, ...]:
    rows, columns = np.mgrid[:side, : side * 3 // 2] / side
    clean = np.stack(
        [128 + 100 * np.sin(7 * rows + 2 * columns), 110 + 90 * np.cos(6 * columns * rows), 255 * (1 - rows)], -1
    )
    clean[side // 3 : side // 2, side // 4 : side] = (230, 180, 60)
    streaks = np.repeat(random.random((side, side * 3 // 2, 1)) > 0.985, 3, 2).astype(np.uint8) * 255
    rain = np.asarray(Image.fromarray(streaks).filter(ImageFilter.BoxBlur((0, 6)))).astype(float) * 6
    noise = random.normal(0, 50, clean.shape)
    made = [
        picture("kodim07.png", "degraded", clean + rain), picture("kodim07.png", "restored", clean + 0.08 * rain),
        picture("kodim07.png", "clean", clean),
    ]  # fmt: skip
    for step in range(0, 11, 2):
        left = 1 - step / 10
        made.append(picture("kodim07.png", "state", clean + left * rain + left * noise, step))
    return tuple(made)


def picture(name: str, role: str, pixels: np.ndarray, step: int | None = None) -> Picture:
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "WEBP", quality=80)
    height, width = pixels.shape[:2]
    return Picture(
        name=name, role=role, media_type="image/webp", height=height, width=width, data=file.getvalue(), step=step
    )


def three() -> list[Results]:
    """Machines, versions and plans beside each other."""
    first = typical()
    other = replace(
        XEON, processor="AMD EPYC 9654 96-Core Processor", instructions=("avx2", "avx512f"), threads=8, load=6.4
    )
    second = replace(
        typical(1, speed=2.2),
        machine=other,
        versions={**first.versions, "openvino": "2026.3.0", "onnxruntime": "1.31.1"},
    )
    third = typical(2, speed=0.45, name="refusion-derain-fp32-posterior-10-evaluations.mrsplan")
    failing = Parity(psnr_db=21.7, reference="torch float32", bar_db=33.0, passes=False)
    cases = tuple(replace(case, parity=failing) if case.by == "compile" else case for case in third.cases)
    return [first, second, replace(third, cases=cases, plan=replace(third.plan, precision="fp32"))]


def least() -> Results:
    """One sample, no rivals, and nothing else."""
    full = typical()
    case = replace(full.cases[0], milliseconds=(12.5,))
    return Results(
        date=full.date, command=full.command, commit="", versions={}, machine=replace(XEON, load=None),
        plan=replace(full.plan, candidates=()), cases=(case,),
    )  # fmt: skip


def flat() -> Results:
    """Everything measured at one value or at nothing, so that scales have no length."""
    full = typical(rounds=5)
    same = Start(first_result_ms=(0.0,), load_ms=(0.0,), first_restore_ms=(0.0,), peak_memory_bytes=(0,))
    equal = [
        replace(row, milliseconds=5.0, metrics={"psnr": (30.0,) * 5}, intervals={"psnr": (30.0, 30.0)})
        for row in full.quality
    ]
    return replace(
        full, cases=tuple(replace(case, milliseconds=(7.0,) * 5) for case in full.cases), start=same,
        throughput=tuple(replace(each, pictures_per_second=(3.0,)) for each in full.throughput),
        timeline=tuple(replace(span, start_ms=0.0, milliseconds=0.0) for span in full.timeline),
        quality=(*equal, replace(equal[0], metrics={}, fid=12.5)), pictures=full.pictures[:2],
    )  # fmt: skip


def hostile() -> Results:
    """Every text tries to be markup, numbers are extreme, and pictures are none."""
    full = typical(rounds=7)
    long = "x" * 300
    cases = [replace(case, label=EVIL, backend=EVIL) for case in full.cases]
    cases += [
        replace(cases[0], by=long, label=long, milliseconds=(1e-9,) * 7),
        replace(cases[0], by="slow", label="slow", milliseconds=(9e11,) * 7),
        replace(cases[0], milliseconds=()),
        replace(cases[0], milliseconds=(-1.0,)),
        replace(cases[0], height=10**400),
    ]
    svg = Picture(
        name=EVIL,
        role="degraded",
        media_type="image/svg+xml",
        height=8,
        width=8,
        data=b"<svg onload='window.stolen=1'/>",
    )
    return replace(
        full, date=EVIL, command=EVIL, commit=EVIL, versions={EVIL: EVIL}, data=EVIL, notes=(EVIL, "\ud800"),
        machine=replace(XEON, processor=EVIL, system=EVIL, instructions=(EVIL,)),
        plan=replace(
            full.plan, name=EVIL, network=EVIL, solver=EVIL, warnings=(EVIL,),
            candidates=(replace(full.plan.candidates[0], backend=EVIL, verdict=EVIL),),
        ),
        cases=tuple(cases), timeline=tuple(replace(span, name=EVIL, lane=long) for span in full.timeline),
        quality=tuple(
            replace(row, label=EVIL, metrics={EVIL: row.metrics["psnr"]}, intervals={EVIL: row.intervals["psnr"]})
            for row in full.quality
        ),
        pictures=(svg, replace(svg, media_type="image/png"), *(replace(each, name=EVIL) for each in full.pictures)),
    )  # fmt: skip
