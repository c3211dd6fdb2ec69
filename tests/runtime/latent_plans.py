"""A plan for latents without a build: the published tiny pair, a solver's table, and a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mrs.building.loops import loop_of
from mrs.building.made_for import MadeFor
from mrs.building.source import read_source
from mrs.export.graph_variant import GraphVariant
from mrs.kernels.table import Table
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine
from tests.golden.networks import weights

# Stochastic, with a prediction to look back on.
SOLVER = Solver("sde", 2, steps=3, last_step="lower-order")


def latent_plan(
    folder: Path, backend: str, shape: tuple[int, int, int] = (1, 16, 32), solver: Solver = SOLVER,
    change: Callable[[Table], Table] = lambda table: table,
) -> Plan:  # fmt: skip
    """In float32, without engines, for pictures (N, H, W) of whole multiples; its files go into a folder."""
    source = read_source(
        weights("latent_chain_nafnet.pth", folder), None, None, False,
        MadeFor(autoencoder=weights("latent_unet.pth", folder), preset="refusion-dehaze"),
    )  # fmt: skip
    loop = loop_of(source, change(tableau(source.schedule, solver, source.output)))
    engine = backends.get(backend)
    codec, coder, table = source.codec, source.autoencoder, loop.table
    assert codec is not None
    assert coder is not None
    count, _, height, width = loop.packed((shape[0], source.channels, *shape[1:]))
    manifest = {
        "network": {
            "architecture": source.arch.name, "channels": source.arch.channels, "multiple": source.arch.multiple,
            "padding": source.arch.padding, "bytes_per_pixel": source.arch.bytes_per_pixel,
        },
        "latent": {
            "channels": source.channels, "multiple": codec.multiple, "scale": codec.scale,
            "bytes_per_pixel": source.bytes_per_pixel, "summary": coder.arch.summary,
        },
        "table": {
            "times": list(table.times), "rows": [list(row) for row in table.rows], "start": table.start,
            "clamp": table.clamp,
        },
        "shape": [count, height, width],
        "backend": backend,
        "precision": "fp32",
        "fingerprint": machine.fingerprint(backend, engine.version(), engine.device),
    }  # fmt: skip
    graph = source.graph(GraphVariant("layernorm", "split")).SerializeToString()
    return Plan(manifest, graph, loop.modulation, encoder=codec.encoder, decoder=codec.decoder)
