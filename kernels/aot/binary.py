"""A launch compiled for a named GPU, by Triton and the assembler that comes with it; no GPU is needed."""

from __future__ import annotations

from dataclasses import dataclass

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mrs.kernels.gpu.launch import Launch, options

# Turing to Blackwell, by compute capability.
CAPABILITIES = (75, 80, 86, 89, 90, 100, 120)
POINTERS = {
    "torch.float32": "*fp32", "torch.float16": "*fp16", "torch.bfloat16": "*bf16",
    "torch.uint8": "*u8", "torch.int32": "*i32", "torch.uint32": "*u32",
}  # fmt: skip
WARP = 32


@dataclass(frozen=True)
class Binary:
    """Machine code of one kernel.

    Attributes:
        capability: of the GPU, 90 for 9.0.
        symbol: the kernel's name in the code.
        parameters: name and type of each argument, in order; pointers begin with *.
        threads: of a program.
        shared: bytes of shared memory to ask for at launch.
        cubin: the code.
    """

    capability: int
    symbol: str
    parameters: tuple[tuple[str, str], ...]
    threads: int
    shared: int
    cubin: bytes


def compiled(launch: Launch, capability: int) -> Binary:
    """The code that `launch.run()` would run on that GPU, for any size.

    Raises:
        RuntimeError: where a number of the launch would have been compiled in.
    """
    kernel = launch.kernel
    names = [name for name in kernel.arg_names if name not in launch.constants]
    signature: dict[str, str] = dict.fromkeys(kernel.arg_names, "constexpr")
    attributes: dict[tuple[int], object] = {}
    fixed = {parameter.name for parameter in kernel.params if parameter.do_not_specialize}
    for name, argument in zip(names, launch.arguments, strict=True):
        if isinstance(argument, int):
            if name not in fixed:
                raise RuntimeError(f"{launch.name} is compiled anew for values of {name}")
            signature[name] = "i32"
            continue
        signature[name] = POINTERS[str(argument.dtype)]
        if argument.data_ptr() % 16 == 0:
            attributes[kernel.arg_names.index(name),] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=launch.constants, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", capability, WARP), options=options(launch.warps))
    return Binary(
        capability,
        made.metadata.name,
        tuple((name, signature[name]) for name in names),
        launch.warps * WARP,
        made.metadata.shared,
        made.asm["cubin"],
    )
