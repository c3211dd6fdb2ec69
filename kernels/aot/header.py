"""Machine code for programs without Python: a file for each kernel and GPU, and a C header that says how to launch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrs.kernels.aot.report import Figures

NAME = "mrs_kernels.h"
C_TYPES = {"*fp32": "float *", "*fp16": "void *", "*bf16": "void *", "*u8": "unsigned char *", "*u32": "unsigned *",
           "*i32": "int *", "i32": "int "}  # fmt: skip
# What Triton appends to every kernel's parameters: memory for uses that these kernels do not have.
UNUSED = "void *unused_1, void *unused_2"
TOP = """\
/* The kernels of mrs-trt for use without Python: load sm_XY/NAME.cubin with cuModuleLoadData, find `symbol` with
 * cuModuleGetFunction, and launch with cuLaunchKernel:
 *
 *   gridDimX   ceil(H' * ceil(W' / group) / groups); N for find and choose; ceil(runs / groups) for audit_values;
 *              ceil((H' * W' - H * W) / groups) for mirror_planes, nothing where that is 0;
 *              ceil(height * side / groups) for scale_columns, ceil(side * side / groups) for scale_rows
 *   gridDimY   N * C where planes is 1 (mirror_planes: N * 2C), otherwise N; 1 for find, choose and audit_values; C for
 *              scale_columns and scale_rows
 *   blockDimX  threads
 *   sharedMemBytes  shared
 *   kernelParams    the addresses of `parameters` in their order; the two last are null pointers
 *
 * N pictures of C channels and H x W pixels lie in states of H' x W'. Every pointer is a multiple of 16. runs is
 * ceil(W' / group), for audit_values N * C * H' * W' / group; picture_groups is W / 16 for bytes and W / 4 for floats;
 * x stands for bounds where nothing is clamped by a threshold. What the arrays hold, and which kernel serves which
 * layout, is said in kernels/gpu/ and docs/kernels.md. A name tells the kernel, the picture's type (u8, f32), the
 * network's (fp32, fp16, bf16), `last` where its channels lie last, `any` where W' is no multiple of group, `levels`
 * where sums are of 256 levels in whole numbers.
 */
#ifndef MRS_KERNELS_H
#define MRS_KERNELS_H

typedef struct {
    const char *name;       /* of the file */
    const char *symbol;     /* in it */
    int capability;         /* of the GPU: 90 for sm_90 */
    unsigned threads;       /* of a block */
    unsigned shared;        /* bytes of shared memory */
    unsigned groups, group; /* runs of a tile, pixels of a run; 0 for find and choose */
    int planes;             /* whether each plane has its own blocks */
    const char *parameters;
} mrs_kernel;

static const mrs_kernel mrs_kernels[] = {
"""
BOTTOM = "};\n\n#endif\n"


def write(figures: Sequence[Figures], folder: Path) -> Path:
    """Write the code and the header.

    Returns:
        The header's path.

    Raises:
        OSError: where the folder cannot be written.
    """
    for each in figures:
        target = folder / f"sm_{each.binary.capability}"
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{each.case.name}.cubin").write_bytes(each.binary.cubin)
    path = folder / NAME
    path.write_text(TOP + "".join(_entry(each) for each in figures) + BOTTOM, encoding="utf-8")
    return path


def _entry(figures: Figures) -> str:
    binary, constants = figures.binary, figures.case.launch.constants
    named = [f"{C_TYPES[kind]}{name}" for name, kind in binary.parameters]
    numbers = (
        binary.capability, binary.threads, binary.shared,
        constants.get("GROUPS", 0), constants.get("GROUP", int("GROUPS" in constants)), int("planes" in binary.symbol),
    )  # fmt: skip
    values = ", ".join(map(str, numbers))
    return f'    {{"{figures.case.name}", "{binary.symbol}", {values},\n     "{", ".join(named)}, {UNUSED}"}},\n'
