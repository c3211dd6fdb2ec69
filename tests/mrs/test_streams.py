"""Standard streams that are closed, full or unread: the work is done, codes are right, nothing ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrs import cli
from mrs.commands.terminal import print_error
from mrs.kernels import terminal
from mrs.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full"),
    pytest.mark.slow(8),
]

# A command that says something on its way, writes a file, and may have a result.
COMMAND = """
import logging, sys
from pathlib import Path
from mrs import cli
from mrs.kernels import terminal
from mrs.runtime.errors import InputError

def run():
    terminal.note("half done")
    logging.getLogger("mrs").warning("a warning")
    with open("made", "w") as file:
        file.write(str(file.fileno()))
    if "result" in sys.argv:
        terminal.emit("a result")
    if "wrong" in sys.argv:
        raise InputError("all wrong", hint="do better")
    return 0

sys.exit(cli.guarded(run))
"""
NOTES = "half done\nnote: a warning\n"
ALL_CLOSED = "<&- >&- 2>&-"


def run(folder: Path, redirected: str, *command: object) -> tuple[int, str, str]:
    """Exit code and what came of a Python command; `unread` and `2 unread` are pipes whose reader is gone."""
    read, write = os.pipe()
    os.close(read)
    streams = {
        "stdout": write if redirected == "unread" else subprocess.PIPE,
        "stderr": write if redirected == "2 unread" else subprocess.PIPE,
    }
    shell = "" if "unread" in redirected else redirected
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, *map(str, command)],
        cwd=folder, env=environment, text=True, check=False, timeout=120, **streams,
    )  # fmt: skip
    os.close(write)
    return done.returncode, done.stdout or "", done.stderr or ""


@pytest.mark.parametrize(
    ("redirected", "err"),
    [
        ("", NOTES),
        (">&-", NOTES),
        ("<&-", NOTES),
        ("2>&-", ""),
        (ALL_CLOSED, ""),
        ("2>/dev/full", ""),
        ("2 unread", ""),
    ],
)
def test_without_a_result_the_streams_do_not_matter(tmp_path: Path, redirected: str, err: str) -> None:
    assert run(tmp_path, redirected, "-c", COMMAND) == (0, "", err)
    # No file gets the number of a stream: a library's warning would be written into it.
    assert int((tmp_path / "made").read_text()) > 2


@pytest.mark.parametrize(
    ("redirected", "code", "out", "err"),
    [
        ("<&-", 0, "a result\n", ""),
        ("2>&-", 0, "a result\n", ""),
        ("2>/dev/full", 0, "a result\n", ""),
        ("2 unread", 0, "a result\n", ""),
        (">&-", 1, "", "error: cannot write the output: it is closed; hint: check where standard output leads\n"),
        (">/dev/full", 1, "", "error: cannot write the output: No space left on device; hint: check where "),
        ("unread", cli.BROKEN_PIPE, "", ""),
        (ALL_CLOSED, 1, "", ""),
        (">/dev/full 2>/dev/full", 1, "", ""),
    ],
)
def test_a_result_must_arrive(tmp_path: Path, redirected: str, code: int, out: str, err: str) -> None:
    got = run(tmp_path, redirected, "-c", COMMAND, "result")
    assert got[:2] == (code, out)
    assert got[2].removeprefix(NOTES if "2" not in redirected else "").startswith(err)
    assert got[2].count("\n") <= 3
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("redirected", ["", ">&-", ALL_CLOSED, "2>/dev/full"])
def test_a_wrong_input_stays_one(tmp_path: Path, redirected: str) -> None:
    code, _, err = run(tmp_path, redirected, "-c", COMMAND, "wrong")
    assert code == 2
    assert err == ("" if "2" in redirected else f"{NOTES}error: all wrong; hint: do better\n")


@pytest.mark.parametrize(
    ("redirected", "code"), [(">&-", 1), (">/dev/full", 1), ("unread", cli.BROKEN_PIPE), ("2>&-", 0)]
)
@pytest.mark.parametrize(
    "arguments",
    [["-m", "mrs.cli", "--version"], ["-m", "mrs.kernels.aot", "--help"]],
    ids=["version", "help of the kernels"],
)
def test_what_argparse_prints_is_a_result(tmp_path: Path, redirected: str, code: int, arguments: list[str]) -> None:
    got = run(tmp_path, redirected, *arguments)
    assert got[0] == code
    assert "Traceback" not in got[2]
    assert bool(got[1]) == (code == 0)


@pytest.mark.parametrize("redirected", ["2>&-", ALL_CLOSED, "2>/dev/full"])
def test_pictures_are_restored_all_the_same(tmp_path: Path, plan: Path, pictures: Path, redirected: str) -> None:
    """And one that cannot be is counted in the code."""
    (pictures / "broken.png").write_bytes(b"no picture")
    got = run(tmp_path, redirected, "-m", "mrs.cli", "restore", plan, pictures, "-o", "out", "--threads", 1)
    assert got[:2] == (1, "")
    assert "Traceback" not in got[2]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b.jpg", "c.webp"]


# Texts that may hold anything


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u00e9\u4e2d\U0001f327, \t tab\nand line", None),
        ("\x1b[2J", r"\u001b[2J"),
        ("a\rb\x00\x07\x7f", r"a\u000db\u0000\u0007\u007f"),
        ("\x9b31m\x85", r"\u009b31m\u0085"),
        ("\u202egnp.exe\u2066\u200f\u061c", r"\u202egnp.exe\u2066\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str | None) -> None:
    assert terminal.shown(text) == (text if shown is None else shown)


def test_an_error_shows_what_a_file_wrote_into_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(InputError("left over: \x1b]0;title\x07\u202e", hint="\x1b[31mred"))
    assert capsys.readouterr().err == "error: left over: \\u001b]0;title\\u0007\\u202e; hint: \\u001b[31mred\n"


def test_a_note_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.note("  two \n\n lines\r\nand \x1b[1m\n")
    assert capsys.readouterr().err == "  two  lines and \\u001b[1m\n"


def test_keys_of_a_checkpoint_do_not_reach_the_terminal(refuse, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "\x1b[1mnet.pth"
    torch.save({"\x1b[2J\u202e": torch.zeros(1)}, path)
    line = refuse("build", path, "-o", tmp_path / "new.mrsplan", says=r"\u001b[2J\u202e")
    assert not terminal.CONTROL.search(line.removesuffix("\n"))
