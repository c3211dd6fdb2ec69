"""From a checkpoint to one ONNX file that restores pictures with nothing but an ONNX engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mrs import _version
from mrs.building.arguments import check_solver
from mrs.building.calibration import calibration_pairs
from mrs.building.graph_check import check_graphs
from mrs.building.loops import loop_of
from mrs.building.made_for import MadeFor
from mrs.building.source import read_source
from mrs.export.autotune.workload import Target
from mrs.export.graph_variant import first_variant
from mrs.export.sampler_graph import build_sampler
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import InputError
from mrs.runtime.system import machine
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.inputs import check_not_read, path_of


@dataclass(frozen=True)
class SamplerFile:
    """What was written.

    Attributes:
        path: of the file.
        size: of the file, in bytes.
        evaluations: of the network.
        draws: pictures of noise that it takes for each picture.
        channels: of a picture.
        noise: shape of the noise, as it is told.
        metadata: that the file carries.
    """

    path: Path
    size: int
    evaluations: int
    draws: int
    channels: int
    noise: str
    metadata: dict[str, str]

    def summary(self) -> str:
        """Aligned lines: what the file is and what it takes and gives."""
        pictures = f"(N, H, W, {self.channels}) uint8"
        lines = [
            ("checkpoint", f"{self.metadata['checkpoint']}  sha256 {self.metadata['checkpoint_sha256'][:16]}..."),
            ("evaluations", str(self.evaluations)),
            ("picture", f"input, {pictures}, any N, H and W"),
            ("noise", f"input, {self.noise} float32, standard normal"),
            ("restored", f"output, {pictures}"),
            ("size", f"{self.size / 1e6:.1f} MB"),
        ]
        return "\n".join(f"{label:<13} {value}" for label, value in lines)


def export_sampler(
    checkpoint: str | Path,
    path: str | Path,
    *,
    solver: Solver | None = None,
    schedule: Schedule | None = None,
    output: str | None = None,
    override_checkpoint: bool = False,
    made_for: MadeFor | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> SamplerFile:
    """Write the whole sampler as one ONNX file, in float32, for pictures of any size; see docs/export.md.

    Args:
        checkpoint: `.pth` or `.safetensors`, or the name of shipped weights, such as `rain`.
        path: the file to write.
        solver: by default `mrs.numerics.solver.RECOMMENDED`.
        schedule: the process the network was trained on; by default what the checkpoint says, else Refusion's.
        output: what the network predicts; by default what the checkpoint says, else `noise`.
        override_checkpoint: whether `schedule` and `output` may contradict what the checkpoint says.
        made_for: what else the caller says of the checkpoint: a preset, how noisy pictures are.
        overwrite: whether `path` may be replaced where it exists, or appears meanwhile.
        report: called with lines of progress.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, does not fit, or is contradicted.
        BackendError: where OpenVINO is installed and does not give the network's function.
        InputError: for any other argument that is wrong.
    """
    check_solver(solver)
    solver = solver or RECOMMENDED
    said = made_for or MadeFor()
    path = path_of("ONNX file", path)
    check_not_read(path, checkpoint, said.encoder, said.autoencoder)
    source = read_source(checkpoint, schedule, output, override_checkpoint, said)
    check_not_read(path, source.path)
    if source.upscale > 1:
        raise InputError(
            "the file of a whole sampler restores pictures at their size, and these are to be enlarged",
            hint="pass --upscale 1 and enlarge them first, by torch's bicubic interpolation, or build a plan",
        )
    if source.codec is not None and solver.clamp != "none":
        raise InputError(f"a latent has no range for clamp {solver.clamp}", hint="use a solver without a clamp")
    solver = source.started(solver)
    table = tableau(source.schedule, solver, source.output)
    report(f"read {source.path}")
    # The form that OpenVINO runs fastest, for the other engine's own is hardly faster there.
    engine = backends.get("openvino")
    variant = first_variant(engine)
    network = source.graph(variant)
    (pair, *_) = calibration_pairs(None, None, source.multiple, source.noise_sigma, 64)
    target = Target(engine.name, settings=CompileSettings(machine.threads(), report=report))
    check_graphs(source, {variant: network.SerializeToString()}, pair, target)
    metadata = {
        "made_by": f"mrs-trt {_version.__version__}",
        "checkpoint": source.path.name,
        "checkpoint_sha256": source.checkpoint.sha256,
        "schedule": json.dumps(source.schedule.to_dict()),
        "solver": json.dumps(solver.to_dict()),
        "steps": str(len(table.rows)),
        "output": source.output,
    }
    if source.encoder is not None:
        metadata |= {"encoder": source.encoder.path.name, "encoder_sha256": source.encoder.sha256}
    noise = f"({1 + table.draws}, N, {source.arch.channels}, H, W)"
    if source.codec is not None and source.autoencoder is not None:
        scale, multiple = source.codec.scale, source.codec.multiple
        noise = noise.replace("H, W", f"H' / {scale}, W' / {scale}") + f", H' and W' the next multiples of {multiple},"
        metadata |= {
            "autoencoder": source.autoencoder.path.name, "autoencoder_sha256": source.autoencoder.sha256,
            "latent_scale": str(scale), "latent_multiple": str(multiple),
        }  # fmt: skip
    model = build_sampler(
        network, loop_of(source, table), source.arch.multiple, metadata, conditioner=source.conditioner
    )
    content = model.SerializeToString()
    with replacing(path, overwrite) as file:
        file.write(content)
    report(f"wrote {path}")
    return SamplerFile(path, len(content), len(table.rows), 1 + table.draws, source.channels, noise, metadata)
