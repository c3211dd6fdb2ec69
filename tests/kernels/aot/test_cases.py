"""What is compiled ahead of time is what a restore launches: nothing is left out, and no size is compiled in."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

ROWS, SLOTS = 3, 3
KINDS = ("float32", "float16", "bfloat16")
NAMED = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}
# Channels, (H, W), (H', W') of pictures: whole groups, padded ones, sizes without any, one channel and many.
SIZES = {
    "whole": (3, (64, 64), (64, 64)),
    "wide": (3, (96, 128), (96, 128)),
    "padded": (3, (250, 250), (256, 256)),
    "odd": (3, (61, 67), (61, 67)),
    "padded to what is odd": (3, (5, 7), (6, 10)),
    "gray": (1, (64, 64), (64, 64)),
    "four channels": (4, (48, 48), (48, 48)),
    "a point": (3, (1, 1), (1, 1)),
}


def specialisation(launch: Any) -> tuple[Any, ...]:
    """All that decides which machine code a launch runs."""
    kinds = [
        "i32" if isinstance(argument, int) else (str(argument.dtype), argument.data_ptr() % 16 == 0)
        for argument in launch.arguments
    ]
    return launch.name, *kinds, *sorted(launch.constants.items()), launch.warps


def launches(
    array: Any,
    kind: str,
    channels_last: bool,
    picture_kind: str,
    channels: int,
    size: tuple[int, int],
    padded: tuple[int, int],
) -> Iterator[Any]:
    """Of a whole restore on arrays of a maker."""
    launch = {name: importlib.import_module(f"mrs.kernels.gpu.{name}") for name in ("start", "step", "finish", "audit")}
    threshold = importlib.import_module("mrs.kernels.gpu.threshold")
    shape = (1, channels, *padded)
    x, mu, history = array("float32", shape), array("float32", shape), array("float32", (SLOTS, *shape))
    output, packed = array(kind, shape, channels_last), array(kind, (1, 2 * channels, *padded), channels_last)
    picture = array(picture_kind, (1, *size, channels))
    tables = array("float32", (1 + ROWS, 16)), array("uint32", (4,))
    counts, bounds = array("int32", threshold.workspace(1)), array("float32", (1,))
    yield launch["start"].launch(picture, mu, x, packed, *tables)
    for index in range(ROWS - 1):
        yield launch["step"].launch(x, mu, output, history, packed, *tables, bounds, index, size)
    yield from threshold.launches(x, mu, output, tables[0], counts, bounds, 0, size)
    yield launch["finish"].launch(x, mu, output, history, picture, *tables, bounds, ROWS - 1)
    yield launch["audit"].launch(output, array("int32", (1,)))


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    from mrs.kernels.aot.cases import cases

    return cases()


@pytest.fixture(scope="module")
def known(cases: list[Any]) -> dict[tuple[Any, ...], str]:
    return {specialisation(case.launch): case.name for case in cases}


def tensor(kind: str, shape: tuple[int, ...], channels_last: bool = False) -> Any:
    """A real array, as a runtime would allocate it."""
    import torch

    made = torch.empty(shape, dtype=getattr(torch, kind))
    return made.contiguous(memory_format=torch.channels_last) if channels_last else made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels_last", [False, True], ids=["planes", "last"])
def test_every_launch_of_a_restore_is_among_the_cases(
    known: dict[tuple[Any, ...], str], size: str, channels_last: bool
) -> None:
    pytest.importorskip("torch")
    for kind, picture in product(KINDS, ("uint8", "float32")):
        made = list(launches(tensor, kind, channels_last, picture, *SIZES[size]))
        assert len(made) == 1 + (ROWS - 1) + 4 + 1 + 1
        for launch in made:
            assert specialisation(launch) in known, (kind, picture, launch.name)


def test_another_size_is_no_other_case(cases: list[Any]) -> None:
    from mrs.kernels.aot.cases import Array

    def array(kind: str, shape: tuple[int, ...], channels_last: bool = False) -> Any:
        return Array.of(kind, *shape, channels_last=channels_last)

    for kind, channels_last, picture in product(KINDS, (False, True), ("uint8", "float32")):
        found = [
            [
                specialisation(launch)
                for launch in launches(array, kind, channels_last, picture, 3, (size, size), (size, size))
            ]
            for size in (64, 256, 1024, 4096)
        ]
        assert all(each == found[0] for each in found)
        # Nor do the launches of later steps differ from the first.
        assert found[0][1] == found[0][2]


@pytest.mark.parametrize("size", [(40, 30), (256, 256), (1001, 3), (7, 900)], ids=str)
def test_every_launch_that_makes_a_picture_fit_is_among_the_cases(
    known: dict[tuple[Any, ...], str], size: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch")
    from mrs.kernels.gpu.scale import Tables
    from mrs.kernels.gpu.scale import launches as of_scale
    from mrs.kernels.scaling import fit_of

    for picture, resize, side in product(("uint8", "float32"), ("stretch", "clip"), (8, 224)):
        fit = fit_of(*size, side, resize)
        tables = Tables(*(torch.from_numpy(each) for taps in (fit.columns, fit.rows) for each in taps))
        lines = tensor("uint8" if fit.levels else "float32", (3, fit.height, side))
        made = of_scale(tensor(picture, (3, *size, 3)), 2, fit, tables, lines, tensor("float32", (1, 3, side, side)))
        assert all(specialisation(launch) in known for launch in made), (picture, resize, side)


def test_names_and_specialisations_are_unique(cases: list[Any], known: dict[tuple[Any, ...], str]) -> None:
    names = [case.name for case in cases]
    assert len(set(names)) == len(names) == len(known)


def test_every_kernel_of_the_package_has_cases(cases: list[Any]) -> None:
    from mrs.kernels import gpu

    modules = [importlib.import_module(f"{gpu.__name__}.{found.name}") for found in pkgutil.iter_modules(gpu.__path__)]
    # Only kernels list the numbers that must not be compiled in; an interpreted one has the list elsewhere.
    named = {
        name
        for module in modules
        for name, value in vars(module).items()
        if getattr(value, "do_not_specialize", None) or getattr(value, "kwargs", {}).get("do_not_specialize")
    }
    assert {case.launch.name for case in cases} == named


@pytest.mark.parametrize("kernel", ["step", "start", "finish", "count"])
def test_both_bodies_are_compiled_for_every_type(cases: list[Any], kernel: str) -> None:
    for kind, body in product(("fp32", "fp16", "bf16"), ("pixels", "planes")):
        assert any(case.name.startswith(f"{kernel}_{body}") and kind in case.name for case in cases), (kind, body)


def test_an_audit_is_compiled_once_for_each_type_and_width_of_access(cases: list[Any]) -> None:
    """Layouts do not concern it, nor do pictures."""
    found = {case.name: case for case in cases if case.launch.name == "audit_values"}
    expected = {
        f"audit_values_{kind}{tail}": (not tail, bytes_, 1 if tail else 16 // bytes_)
        for (kind, bytes_), tail in product((("fp32", 4), ("fp16", 2), ("bf16", 2)), ("", "_any"))
    }
    assert {
        name: (case.wide, case.traffic.moved, case.launch.constants["GROUP"]) for name, case in found.items()
    } == expected
    for name, case in found.items():
        # The type that it is named after; a value for each thread where runs are single values.
        assert NAMED[str(case.launch.arguments[0].dtype)] in name
        assert case.elements == 128 * expected[name][2]


def test_the_wide_cases_come_first_and_know_what_they_move(cases: list[Any]) -> None:
    wide = [case.wide for case in cases]
    assert wide == sorted(wide, reverse=True)
    # Margins are a few lines, counts no pixels, and what is made to fit is read from caches.
    mirrors = [f"mirror_planes_{short}{tail}" for short in ("fp32", "fp16", "bf16") for tail in ("", "_last")]
    scales = [f"scale_{name}{tail}" for tail in ("_levels", "") for name in ("columns_u8", "rows", "columns_f32")]
    assert [case.name for case in cases if case.traffic is None] == [*mirrors, *scales, "find", "choose"]
    assert all(case.elements > 0 for case in cases if case.traffic)


def test_an_array_describes_itself_as_a_tensor_does() -> None:
    pytest.importorskip("torch")
    from mrs.kernels.aot.cases import Array

    for kind, channels_last in product(("float32", "bfloat16", "uint8", "int32"), (False, True)):
        shape = (2, 3, 5, 7)
        ours, real = Array.of(kind, *shape, channels_last=channels_last), tensor(kind, shape, channels_last)
        assert (ours.shape, ours.dtype, ours.stride()) == (tuple(real.shape), str(real.dtype), real.stride())
        assert (ours.numel(), ours.element_size(), len(ours)) == (real.numel(), real.element_size(), len(real))
        assert ours.data_ptr() % 16 == 0
        assert ours.data_ptr() != Array.of(kind, *shape).data_ptr()
