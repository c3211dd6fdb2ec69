"""Every kernel compiles for every GPU without a spill, a narrow access or a byte too many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

# Loading Triton here would load it before the tests beside these have asked for its interpreter.
if find_spec("triton") is None:
    pytest.skip("Triton has wheels for Linux only", allow_module_level=True)

# What a subprocess prints of figures that were spoilt on purpose: their faults, as JSON.
SPOILT = """
import json
from dataclasses import replace
from mrs.kernels.aot.cases import cases
from mrs.kernels.aot.report import measure
from mrs.kernels.gpu.traffic import Traffic
by_name = {case.name: case for case in cases()}
good = measure(by_name["step_planes_bf16"], 90)
narrow = measure(replace(by_name["step_planes_bf16_any"], wide=True), 90)
code, case = good.code, good.case
print(json.dumps({
    "good": good.faults(),
    "narrow": narrow.faults(),
    "spilled": replace(good, code=replace(code, spilled=8)).faults(),
    "more": replace(good, case=replace(case, traffic=Traffic(1, 1))).faults(),
    "less": replace(good, case=replace(case, traffic=Traffic(90, 90))).faults(),
}))
"""


@dataclass
class Ended:
    code: int
    out: str
    err: str


def python(*arguments: str, **environment: str) -> Ended:
    """Kernels that the tests beside these interpret cannot be compiled in the same process."""
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env={**clean, **environment}
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "kernels"),
    [
        (["--wide", "--target", "sm_90"], 42),
        (
            [*(f"--target=sm_{target}" for target in (75, 80, 86, 89, 100, 120)), "--wide"]
            + [
                f"--kernel={name}_bf16"
                for name in ("step_planes", "step_pixels", "start_pixels_u8", "finish_pixels_u8")
            ],
            36,
        ),
    ],
    ids=["all wide ones for sm_90", "the others"],
)
def test_the_machine_code_is_as_it_should_be(arguments: list[str], kernels: int) -> None:
    ended = python("-m", "mrs.kernels.aot", *arguments)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith(f"{kernels} kernels compiled, 0 faults\n")
    rows = [
        line.split("|")[1:-1]
        for line in ended.out.partition("\nall\n")[0].splitlines()
        if " x16" in line or "x16" in line
    ]
    assert len(rows) == kernels
    for name, registers, spilled, _, _, _, moved, minimum in rows:
        assert 0 < int(registers) <= 255, name
        assert int(spilled) == 0, name
        assert moved.strip() == minimum.strip(), name


def test_what_is_spoilt_is_found() -> None:
    ended = python("-c", SPOILT)
    assert ended.code == 0, ended.err
    faults = json.loads(ended.out)
    assert faults["good"] == []
    for kind, text in (
        ("narrow", "accesses of 2 bytes where 16 are possible"), ("spilled", "spills 8 bytes"),
        ("more", "moves 32 bytes for each element where 2 suffice"), ("less", "where 180 suffice"),
    ):  # fmt: skip
        assert any(text in fault for fault in faults[kind]), (kind, faults[kind])


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--target", "sm_12"], {}, "target 'sm_12' is unknown"),
        (["--kernel", "nothing"], {}, "no kernel has 'nothing' in its name"),
        (["--jobs", "0"], {}, "not a whole number of at least 1"),
        (["--write", "/dev/null/x"], {}, "cannot write /dev/null/x"),
        ([], {"TRITON_INTERPRET": "1"}, "TRITON_INTERPRET is set"),
    ],
    ids=["target", "kernel", "jobs", "folder", "interpreter"],
)
def test_a_wrong_input_is_one_error_and_one_hint(arguments: list[str], environment: dict[str, str], said: str) -> None:
    ended = python("-m", "mrs.kernels.aot", *arguments, **environment)
    error, hint = ended.err.splitlines()
    assert (ended.code, ended.out) == (2, "")
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")
