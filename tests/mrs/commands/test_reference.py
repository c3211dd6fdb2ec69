"""docs/commands.md says what the parsers say."""

from __future__ import annotations

import argparse
from pathlib import Path

from mrs import cli
from mrs.commands.reference import reference, shown

PAGE = Path(__file__).resolve().parents[3] / "docs" / "commands.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m mrs.commands.reference > docs/commands.md"


def test_every_option_of_every_command_is_explained() -> None:
    commands = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    text = reference()
    for name, command in commands.items():
        section = text.split(f"\n## mrs-trt {name}\n")[1].split("\n## ")[0]
        for action in command._actions:
            if shown(action):
                assert any(action.help in line for line in section.splitlines() if line.startswith("| `"))
            for flag in action.option_strings:
                assert (f"`{flag}" in section or f", {flag}" in section) is shown(action)


def test_tables_are_tables() -> None:
    """A bar in a cell would start another one."""
    for line in reference().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 3, line
