"""The command line as a whole: exit codes, one line per error, and that a bug is still seen as a bug."""

from __future__ import annotations

import argparse
import errno
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mrs import cli
from mrs._version import __version__
from mrs.kernels import terminal
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.plan import read_plan

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [module.__name__.rpartition(".")[2] for module in cli.COMMANDS]


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    # Buffers are where a reader that went away and a full disk come to light late.
    environment.pop("PYTHONUNBUFFERED", None)
    command = [sys.executable, "-m", "mrs.cli", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


def raising(error: BaseException):
    def fail() -> int:
        raise error

    return fail


# Arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: COMMAND; hint: mrs-trt --help"),
        (["polish"], "invalid choice: 'polish'"),
        (["--frobnicate"], "COMMAND"),
        (["build"], "required: CKPT, -o/--output; hint: mrs-trt build --help"),
        (["export"], "required: CKPT, -o/--output; hint: mrs-trt export --help"),
        (["deploy", "-o", "models"], "required: PLAN_OR_CKPT; hint: mrs-trt deploy --help"),
        (["restore", "a.mrsplan", "-o", "b"], "required: IN; hint: mrs-trt restore --help"),
        (["inspect"], "required: PLAN; hint: mrs-trt inspect --help"),
        (["tune", "rain", "-o", "t.json"], "required: --evaluations; hint: mrs-trt tune --help"),
        (["tune", "--evaluations", "5"], "required: PLAN_OR_CKPT, -o/--output; hint: mrs-trt tune --help"),
        (["doctor", "--loud"], "--loud"),
        (["train", "folder"], "required: -o/--output; hint: mrs-trt train --help"),
        (["build", "c", "-o"], "argument -o/--output: expected one argument"),
        (["build", "c", "-o", "p", "--steps", "two\nlines"], r"'two\nlines' is not a whole number of at least 1"),
        (["polish\nup"], "polish"),
    ],
)
def test_wrong_arguments_are_one_line(refuse, arguments, says) -> None:
    refuse(*arguments, says=says)


def test_options_cannot_be_abbreviated(refuse) -> None:
    """What is short for --overwrite today would be ambiguous after the next option."""
    refuse("restore", "plan", "in", "-o", "out", "--overw", says="--overw")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(run, command) -> None:
    result = run(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"usage: mrs-trt {command} ")
    commands = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert all(action.help for action in commands[command]._actions)


def test_version(run) -> None:
    assert run("--version").out == f"mrs-trt {__version__}\n"


# What becomes of errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("nothing there", hint="look elsewhere"), 2, "error: nothing there; hint: look elsewhere\n"),
        (BackendError("two\nlines", hint="and\n a hint"), 2, "error: two lines; hint: and a hint\n"),
        (InputError("no hint"), 2, "error: no hint\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_on_purpose_are_one_line(capsys, error, code, line) -> None:
    assert cli.guarded(raising(error)) == code
    assert capsys.readouterr() == ("", line)


def test_too_little_memory_is_one_line(capsys) -> None:
    assert cli.guarded(raising(MemoryError())) == 2
    assert capsys.readouterr().err.startswith("error: there is not enough memory; hint: ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENAMETOOLONG, errno.EROFS])
def test_what_the_system_refuses_is_one_line(capsys, number) -> None:
    assert cli.guarded(raising(OSError(number, os.strerror(number), "some/file"))) == 2
    line = f"error: cannot use some/file: {os.strerror(number)}; hint: check names, permissions and free space\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), ValueError("a bug"), FileNotFoundError(errno.ENOENT, "a bug")]
)
def test_a_bug_is_not_swallowed(error) -> None:
    with pytest.raises(type(error), match="a bug"):
        cli.guarded(raising(error))


def test_a_bug_in_a_command_is_not_swallowed(run, plan, picture, tmp_path, monkeypatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("mrs.runtime.session.Restorer.restore", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run("restore", plan, picture, "-o", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("command", ["build", "inspect", "tune", "train"])
def test_ctrl_c_in_a_command(run, golden, plan, pictures, tmp_path, monkeypatch, quick, command) -> None:
    where = {
        "build": "mrs.building.build.autotune", "inspect": "mrs.runtime.plan.read_plan",
        "train": "mrs.training.train._batch",
        "tune": "mrs.tuning.trial.Trial.run",
    }  # fmt: skip
    monkeypatch.setattr(where[command], lambda *arguments, **options: raising(KeyboardInterrupt())())
    output = tmp_path / "out.safetensors"
    arguments = {
        "build": ["build", golden.weights, "-o", output, "-q", "--backend", "onnxruntime"],
        "inspect": ["inspect", plan],
        "tune": ["tune", plan, "-o", tmp_path / "out.json", "-q", "--evaluations", 2, "--crop", 8, "--threads", 1],
        "train": ["train", pictures, "-o", output, "--width", 4, "--enc", 1, "--dec", 1, "--patch", 8, "--no-bf16"],
    }
    result = run(*arguments[command])
    assert (result.code, result.out, result.err) == (130, "", "interrupted\n")
    assert not list(tmp_path.glob("*out*"))


def test_the_whole_of_standard_output_is_flushed_before_success_is_told(capsys, monkeypatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Full())
        assert cli.guarded(lambda: terminal.emit("result") or 0) == 1
    assert capsys.readouterr().err.startswith("error: cannot write the output: No space left on device; hint: ")


# As a process


def test_an_error_of_a_process(tmp_path) -> None:
    process = start("inspect", tmp_path / "missing.mrsplan")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: plan ")
    assert err.count("\n") == 1


def test_a_bug_of_a_process_shows_its_traceback() -> None:
    source = "import sys\nfrom mrs import cli\nsys.exit(cli.guarded(lambda: [][0]))"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "IndexError" in done.stderr


def test_a_reader_that_goes_away_leaves_no_traceback(plan) -> None:
    process = start("inspect", plan)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == cli.BROKEN_PIPE
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_behind_standard_output(plan) -> None:
    with open("/dev/full", "w") as full:
        process = start("inspect", plan, stdout=full)
        _, err = process.communicate()
    assert process.returncode == 1
    assert err == "error: cannot write the output: No space left on device; hint: check where standard output leads\n"


def test_notes_of_the_runtime_are_lines_on_stderr(plan, picture, tmp_path) -> None:
    process = start("restore", plan, picture, "-o", tmp_path / "out.png", "-q", "--memory", 1, "--threads", 1)
    _, err = process.communicate()
    # 21x27 pixels of a network of width 8 fit into 1 MiB: nothing to say, and --quiet says nothing else.
    assert (process.returncode, err) == (0, "")
    # 64 times the pixels do not.
    from PIL import Image

    large = tmp_path / "large.png"
    with Image.open(picture) as image:
        image.resize((8 * 27, 8 * 21)).save(large)
    process = start("restore", plan, large, "-o", tmp_path / "large-out.png", "-q", "--memory", 1, "--threads", 1)
    _, err = process.communicate()
    assert process.returncode == 0
    assert err.startswith("note: 168x216 exceeds the memory for one pass: restoring in tiles of ")
    assert err.count("\n") == 1


def test_names_that_are_no_text(plan, tmp_path) -> None:
    """Bytes that are not UTF-8, as old archives have them, in an error and in a result."""
    missing = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    process = start("restore", plan, missing, "-o", tmp_path / "out.png")
    _, err = process.communicate()
    assert process.returncode == 2
    assert r"\udcff.png does not exist" in err
    named = tmp_path / "named.mrsplan"
    made = read_plan(plan)
    manifest = {key: value for key, value in made.manifest.items() if not key.startswith(("format", "members"))}
    replace(made, manifest={**manifest, "checkpoint": {"name": "\udcff.pth", "sha256": "0" * 64}}).save(named)
    process = start("inspect", named)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert r"checkpoint    \udcff.pth " in out


INTERRUPTED_EARLY = """
import sys

class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Impatient())
from mrs.cli import main
sys.exit(main(["presets"]))
"""


@pytest.mark.parametrize("name", ["logging", "mrs.commands.tune", "mrs.runtime.errors"])
def test_an_interrupt_while_the_command_line_is_imported(name) -> None:
    """As at any other time: Ctrl-C in the first moment is no bug."""
    command = [sys.executable, "-S", "-c", INTERRUPTED_EARLY.format(name=name)]
    environment = {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_main_calls_the_command_that_was_named(monkeypatch) -> None:
    called = []
    command = SimpleNamespace(
        add_parser=lambda commands: commands.add_parser("hop").set_defaults(run=lambda options: called.append(1) or 1)
    )
    monkeypatch.setattr(cli, "COMMANDS", (command,))
    assert cli.main(["hop"]) == 1
    assert called == [1]
