"""Tables of times: restores, the sampler's kernels, processes, folders, published networks, graph variants."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.rows import Row
from benchmarks.tables.measured import machines, markdown, ms, newest, spread, when
from mrs.runtime.manifest import JsonObject

AGAINST_EAGER = "restore refusion {} against torch eager float32"
BARE = "restore refusion {} against bare evaluations"
PRECISIONS = ("bf16", "fp32")
KERNELS = ("start", "ode step", "sde step", "finish")
FORMS = ("torch.onnx", "layernorm-split", "layernorm-weights", "moments-split", "moments-weights", "length-split",
         "length-weights", "convolution-split", "convolution-weights", "raw-split", "raw-weights")  # fmt: skip


def restores() -> str:
    """Refusion's network: a whole restore against plain torch and against bare evaluations, by machine."""

    def eager(figures: JsonObject, of: str) -> str:
        return f"{ms(figures[f'{of}_ms'])} ({ms(figures[f'{of}_min_ms'])}-{ms(figures[f'{of}_max_ms'])})"

    lines: list[tuple[str, str, Callable[[JsonObject], str]]] = []
    for precision in PRECISIONS:
        against, bare = AGAINST_EAGER.format(precision), BARE.format(precision)
        lines += [
            (f"{precision}, whole restore, ms", against, lambda f: eager(f, "restore")),
            ("the same solver in torch eager float32, ms", against, lambda f: eager(f, "eager")),
            ("times faster, pair by pair", against,
             lambda f: spread(f, "times_faster", "times_faster_min", "times_faster_max")),
            ("outside the network", against, lambda f: f"{f['outside_network_percent']:.1f} %"),
            ("rounding", against, lambda f: str(f["parity_verdict"])),
            ("against as many bare evaluations of the engine's own loop", bare,
             lambda f: spread(f, "ratio", "ratio_low", "ratio_high", ".3f")),
        ]  # fmt: skip
    return _by_machine(lines)


def processes() -> str:
    """Imports, first restores, and one very large picture, by machine."""
    return _by_machine([
        ("`import mrs`, ms", "import mrs",
         lambda f: f"{1e3 * f['median_s']:.0f} ({1e3 * f['min_s']:.0f}-{1e3 * f['max_s']:.0f})"),
        ("first restore of a process, 256x256, 5 evaluations, s", "first restore of a process, 256x256",
         lambda f: spread(f, "median_s", "min_s", "max_s", ".2f")),
        ("4096x4096, s", "restore of 4096x4096", lambda f: f"{f['seconds']:.0f}"),
        ("4096x4096, GiB of memory", "restore of 4096x4096", lambda f: f"{f['peak_gib']:.2f}"),
    ])  # fmt: skip


def kernels() -> str:
    """The sampler's own work at 256x256, compiled and in NumPy, by machine."""

    def cell(f: JsonObject) -> str:
        return spread(f, "median_ms", "q1_ms", "q3_ms", ".2f")

    return _by_machine([
        (f"{kind}, {words}", f"kernel {kind} {code}", cell)
        for kind in KERNELS for code, words in (("compiled", "compiled"), ("numpy", "NumPy"))
    ])  # fmt: skip


def folders() -> str:
    """A folder of pictures from files to files, by machine."""
    lines: list[tuple[str, str, Callable[[JsonObject], str]]] = []
    for precision in PRECISIONS:
        case = f"folder of pictures, {precision}"
        lines += [
            (f"{precision}, one at a time, s", case, lambda f: f"{f['one at a time, s']:.1f}"),
            ("several in flight, s", case, lambda f: f"{f['several in flight, s']:.1f}"),
            ("times faster", case,
             lambda f: spread(f, *(f"several in flight, {name}" for name in ("times faster", "least", "most")), ".2f")),
        ]  # fmt: skip
    return _by_machine(lines)


def published_networks() -> str:
    """One evaluation of IR-SDE's and DA-CLIP's networks against torch eager, by machine and engine."""
    names = ("IR-SDE", "DA-CLIP")
    found = {name: newest(f"published network {name}") for name in names}
    lines = []
    for machine in machines(f"published network {name}" for name in names):
        rows = [found[name].get(machine) for name in names]
        works = dict.fromkeys(
            key.removesuffix(" ms") for row in rows if row for key in row["figures"] if key.endswith(" ms")
        )
        lines.append((f"**{machine}**", *("" for _ in names)))
        lines += [(work, *(_times(row, work, "eager") for row in rows)) for work in works]
    table = markdown(("times faster than torch eager float32, quartiles (ms)", *names), lines)
    return f"{table}\n\n{when(row for of in found.values() for row in of.values())}"


def graph_variants() -> str:
    """Every way to write NAFNet's graph, on every engine, against what torch.onnx makes of it."""
    columns = [
        (f"{width}, {words}", row, engine)
        for width, engines in (
            ("width 16", (("openvino fp32", "OpenVINO fp32"), ("openvino bf16", "OpenVINO bf16"),
                          ("onnxruntime fp32", "ONNX Runtime fp32"))),
            ("width 64", (("openvino bf16", "OpenVINO bf16"),)),
        )
        for engine, words in engines
        for row in newest(f"graph forms {width}").values()
        if f"torch.onnx {engine} ms" in row["figures"]
    ]  # fmt: skip
    lines = [
        (form.replace("-", ", "), *(_times(row, f"{form} {engine}", "torch.onnx") for _, row, engine in columns))
        for form in FORMS
    ]
    table = markdown(("variant", *(name for name, *_ in columns)), lines)
    return f"{table}\n\n{when(row for _, row, _ in columns)}"


def _times(row: Row | None, work: str, than: str) -> str:
    """How many times faster than something one work is, with quartiles where there are, and its ms."""
    figures = row["figures"] if row else {}
    if f"{work} ms" not in figures:
        return ""
    faster, took = f"{figures[f'{work} times faster than {than}']:.2f}", ms(figures[f"{work} ms"])
    low, high = figures.get(f"{work} low"), figures.get(f"{work} high")
    return f"{faster}{'' if low is None or low == high else f', {low:.2f}-{high:.2f}'} ({took})"


def _by_machine(lines: list[tuple[str, str, Callable[[JsonObject], str]]]) -> str:
    """A line for each figure, a column for each machine that measured one of them, and below it when and with what."""
    found = {case: newest(case) for _, case, _ in lines}
    columns = machines(found)
    body = []
    for words, case, cell in lines:
        cells = [cell(found[case][machine]["figures"]) if machine in found[case] else "" for machine in columns]
        if any(cells):
            body.append((words, *cells))
    rows = (row for of in found.values() for row in of.values())
    return f"{markdown(('', *columns), body)}\n\n{when(rows)}"
