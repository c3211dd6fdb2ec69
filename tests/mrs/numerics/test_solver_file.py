"""Solver files: what is written is read again; every file that is none is refused in one line that says why."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrs.numerics import solver_file
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.solver_file import HINT, read_solver, write_solver
from mrs.runtime.errors import InputError

SOLVER = Solver("unipc-b2", 3, "noise", 3, "custom", times=(100.0, 41.0, 7.0, 0.0))
SCHEDULE = Schedule(max_sigma=30.0, convention="ir-sde")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuned.json"


@pytest.fixture
def changed(path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """A sound file, changed by a function of its content."""

    def make(change: Callable[[dict[str, Any]], object]) -> Path:
        write_solver(path, SOLVER, SCHEDULE, {})
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path

    return make


def refused(path: Path | str) -> InputError:
    """The error of a file that is not read; it names the file and is one line with a hint."""
    with pytest.raises(InputError) as caught:
        read_solver(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


# What is read


@pytest.mark.parametrize(
    "solver",
    [
        SOLVER,
        Solver(),
        Solver("sa", 3, steps=7, start_time=62.25, stochasticity=0.3, clamp="threshold", last_step="full"),
        Solver("ghvb", 4, "noise", momentum=1 / 3, lambda_min=-2.75, spacing="karras-n", denoise_last=True),
        Solver("heun", steps=3, spacing="custom", times=(99.5, 0.1, 0.0)),
        Solver("posterior", 1, noise_scale=0.1, start_noise=1 / 3),
    ],
    ids=lambda solver: solver.name,
)
@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule("linear", 12.5, 0.01, 37, interpolation="exact")])
def test_what_is_written_is_read(path: Path, solver: Solver, schedule: Schedule) -> None:
    write_solver(path, solver, schedule, {"found_by": "hand"})
    assert read_solver(path) == (solver, schedule)
    assert read_solver(str(path)) == (solver, schedule)


@given(
    st.lists(st.floats(1e-6, 100), min_size=1, max_size=12, unique=True),
    st.floats(0, 5),
    st.floats(-50, 50),
    st.floats(1, 255),
)
def test_numbers_keep_all_their_digits(
    tmp_path_factory: pytest.TempPathFactory, times: list[float], tau: float, lowest: float, sigma: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "digits.json"
    falling = (*sorted(times, reverse=True), 0.0)
    solver = Solver(
        "sa", 1, steps=len(times), spacing="custom", lambda_min=lowest, stochasticity=tau, times=falling
    )  # fmt: skip
    write_solver(path, solver, Schedule(max_sigma=sigma), {})
    assert read_solver(path) == (solver, Schedule(max_sigma=sigma))


def test_a_file_is_json_for_people_with_what_it_was_found_by(path: Path) -> None:
    write_solver(path, SOLVER, SCHEDULE, {"evaluations": 3, "table": [{"to_reference_db": 31.5}]})
    text = path.read_text()
    assert json.loads(text) == {
        "format": "mrs-trt solver",
        "format_version": 1,
        "solver": SOLVER.to_dict(),
        "schedule": SCHEDULE.to_dict(),
        "evaluations": 3,
        "table": [{"to_reference_db": 31.5}],
    }
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 10


def test_what_a_file_leaves_out_has_its_default(changed: Any) -> None:
    path = changed(lambda content: content.update(solver={"steps": 4}, schedule={"max_sigma": 10}))
    assert read_solver(path) == (Solver(steps=4), Schedule(max_sigma=10))


def test_what_else_a_file_says_is_not_read(changed: Any) -> None:
    path = changed(lambda content: content.update(evaluations="many", comment=[None, {"deep": 1}]))
    assert read_solver(path) == (SOLVER, SCHEDULE)


# Files that are no solver files


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for name, says in (
        ("missing.json", "No such file"),
        ("folder.json", "Is a directory"),
        ("file/deeper.json", "Not a directory"),
        ("n" * 300 + ".json", "File name too long"),
    ):
        error = refused(tmp_path / name)
        assert error.message.startswith(f"solver file {tmp_path / name} cannot be read: {says}")
        assert error.hint == HINT


def test_a_file_without_permission(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may read everything, so the system's answer is replaced.
    def denied(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(solver_file, "open_regular", denied)
    assert refused(path).message == f"solver file {path} cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b"ode-2\n", "Expecting value"),
        (b'{"format": "mrs-trt solver", "solver": {', ""),
        (b'{"format": "mrs-trt solver"} trailing', "Extra data"),
        (b"PK\x03\x04" + bytes(range(256)), ""),
        (b"\xff\xfe\x00\x80" * 7, ""),
        (b"\x00" * 64, ""),
        (b'{"format": "\xc3\x28"}', "utf-8"),
        (b"[" * 100_000, ""),
        (b'{"format":' * 100_000 + b"1" + b"}" * 100_000, ""),
        (b"9" * 10_000, ""),
        (b"null", "does not say 'mrs-trt solver'"),
        (b"[]", "does not say 'mrs-trt solver'"),
        (b'"mrs-trt solver"', "does not say 'mrs-trt solver'"),
        (b"NaN", "does not say 'mrs-trt solver'"),
        (b"{}", "does not say 'mrs-trt solver'"),
        (b'{"format": "mrs-trt plan", "format_version": 2}', "does not say 'mrs-trt solver'"),
        (b'{"format": ["mrs-trt solver"]}', "does not say 'mrs-trt solver'"),
    ],
    ids=[
        "empty", "text", "cut", "trailing", "zip", "junk", "zeros", "wrong utf-8", "deep list", "deep object",
        "long number", "null", "list", "string", "NaN", "empty object", "plan", "format of another type",
    ],
)  # fmt: skip
def test_files_of_other_kinds(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    error = refused(path)
    assert error.message.startswith(f"{path} is no solver file: ")
    assert says in error.message
    assert error.hint == HINT


def test_a_file_that_is_too_large(path: Path) -> None:
    write_solver(path, SOLVER, SCHEDULE, {})
    text = path.read_bytes()
    # Spaces at its end change nothing, up to the limit.
    path.write_bytes(text.ljust(solver_file.LIMIT))
    assert read_solver(path) == (SOLVER, SCHEDULE)
    path.write_bytes(text.ljust(solver_file.LIMIT + 1))
    assert refused(path).message == f"{path} is no solver file: it is too large"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end_is_not_read(path: Path, kind: str) -> None:
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    assert f"cannot be read: it is a {kind}" in refused(path).message


# Files of another content


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version(changed: Any, version: Any) -> None:
    error = refused(changed(lambda content: content.update(format_version=version)))
    assert f"has format version {version!r}, this program reads 1" in error.message
    assert error.hint == "tune again with this version"


def test_a_file_without_a_version(changed: Any) -> None:
    assert "format version None" in refused(changed(lambda content: content.pop("format_version"))).message


@pytest.mark.parametrize("name", ["solver", "schedule"])
def test_what_must_be_there(changed: Any, name: str) -> None:
    error = refused(changed(lambda content: content.pop(name)))
    assert error.message.endswith(f" lacks {name!r}")
    assert error.hint == HINT


@pytest.mark.parametrize("name", ["solver", "schedule"])
@pytest.mark.parametrize("value", [None, 5, "ode-2", ["ode", 2], [], {"beta": 1}], ids=repr)
def test_what_is_of_another_kind(changed: Any, name: str, value: Any) -> None:
    error = refused(changed(lambda content: content.update({name: value})))
    assert "is not understood: " in error.message
    assert error.hint == HINT


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("method", "magic", "solver method 'magic' is unknown"),
        ("method", None, "solver method None is unknown"),
        ("method", ["ode"], "solver method ['ode'] is unknown"),
        ("method", "heun", "method 'heun' has no order 3"),
        ("order", 9, "method 'unipc-b2' has no order 9"),
        ("order", 3.0, "method 'unipc-b2' has no order 3.0"),
        ("order", "3", "method 'unipc-b2' has no order 3"),
        ("prediction", "velocity", "solver prediction 'velocity' is unknown"),
        ("steps", 0, "steps 0 is not a whole number of at least 1"),
        ("steps", math.nan, "steps nan is not a whole number"),
        ("steps", 4, "4 times are not 5"),
        ("spacing", "linspace", "custom spacing and times go together"),
        ("lambda_min", math.nan, "lambda_min nan is not a number"),
        ("lambda_min", "low", "lambda_min 'low' is not a number"),
        ("denoise_last", 1, "denoise_last 1 is neither true nor false"),
        ("last_step", "first", "solver last_step 'first' is unknown"),
        ("clamp", "unit", "a noise prediction cannot be clamped"),
        ("stochasticity", math.nan, "stochasticity nan is not"),
        ("stochasticity", 0.5, "'unipc-b2' takes no stochasticity"),
        ("momentum", math.inf, "momentum inf is not"),
        ("noise_scale", math.nan, "noise_scale nan is not a number from 0 to 2"),
        ("noise_scale", 0.5, "'unipc-b2' takes no noise_scale"),
        ("start_noise", "none", "start_noise 'none' is not a number from 0 to 2"),
        ("start_time", 50.0, "a custom grid starts where its times start"),
        ("start_time", math.nan, "start_time nan is not a time above 0"),
        ("times", [], "custom spacing and times go together"),
        ("times", [1, 2, 3, 4], "times [1, 2, 3, 4] do not fall to 0 or above"),
        ("times", [100, math.nan, 7, 0], "do not fall to 0 or above"),
        ("times", [math.inf, 41, 7, 0], "do not fall to 0 or above"),
        ("times", [100, 41, 7, -1], "do not fall to 0 or above"),
        ("times", [100, "41", 7, 0], "are not a list of numbers"),
        ("times", 100, "times 100 are not a list of numbers"),
        ("times", {"0": 100}, "are not a list of numbers"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_solver_that_cannot_be(changed: Any, field: str, value: Any, says: str) -> None:
    """JSON as Python reads it knows NaN and infinities."""
    path = changed(lambda content: content["solver"].update({field: value}))
    error = refused(path)
    assert error.message.startswith(f"solver file {path}: ")
    assert says in error.message


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("kind", "square", "schedule kind 'square' is unknown"),
        ("kind", {}, "schedule kind {} is unknown"),
        ("max_sigma", math.nan, "max_sigma nan is outside [1, 255]"),
        ("max_sigma", "50", "schedule max_sigma '50' is not a number"),
        ("eps", math.inf, "eps inf is outside (0, 1)"),
        ("T", 100.0, "T 100.0 is not a whole number"),
        ("T", 10**9, "T 1000000000 is not a whole number from 2"),
        ("convention", "mine", "schedule convention 'mine' is unknown"),
        ("interpolation", None, "schedule interpolation None is unknown"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_schedule_that_cannot_be(changed: Any, field: str, value: Any, says: str) -> None:
    path = changed(lambda content: content["schedule"].update({field: value}))
    error = refused(path)
    assert error.message.startswith(f"solver file {path}: ")
    assert says in error.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lambda_min": 10**400}, "is not a number"),
        ({"lambda_min": -(10**400)}, "is not a number"),
        ({"times": [10**400, 41, 7, 0]}, "is not understood: "),
    ],
    ids=["lambda_min", "negative lambda_min", "times"],
)
def test_whole_numbers_that_no_float_holds(changed: Any, change: dict[str, Any], says: str) -> None:
    error = refused(changed(lambda content: content["solver"].update(change)))
    assert says in error.message


# Nothing is half-written


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.usefixtures("no_space")
def test_a_full_disk_leaves_what_was_there(path: Path, old: str | None) -> None:
    if old is not None:
        path.write_text(old)
    with pytest.raises(InputError, match=r"cannot write .*tuned\.json: No space left on device"):
        write_solver(path, SOLVER, SCHEDULE, {})
    assert [(entry.name, entry.read_text()) for entry in path.parent.iterdir()] == (
        [] if old is None else [("tuned.json", old)]
    )


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file") as caught:
        write_solver(tmp_path / "missing" / "tuned.json", SOLVER, SCHEDULE, {})
    assert caught.value.hint == "check that its folder exists and may be written, or choose another"
    with pytest.raises(InputError, match="it is a folder"):
        write_solver(tmp_path, SOLVER, SCHEDULE, {})

    def denied(self: Path, *mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    # The superuser may write everywhere, so the system's answer is replaced.
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)
        with pytest.raises(InputError, match="Permission denied"):
            write_solver(tmp_path / "tuned.json", SOLVER, SCHEDULE, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("about", [{"to_reference_db": math.inf}, {"found": {1, 2}}], ids=["infinity", "no JSON"])
def test_what_json_does_not_hold_is_not_written(path: Path, about: dict[str, Any]) -> None:
    path.write_text("old")
    with pytest.raises((ValueError, TypeError)):
        write_solver(path, SOLVER, SCHEDULE, about)
    assert [(entry.name, entry.read_text()) for entry in path.parent.iterdir()] == [("tuned.json", "old")]
