"""docs/commands.md, from the same parsers as `--help`: `python -m mrs.commands.reference > docs/commands.md`.

The parsers' own help is not used, because each version of Python lays it out in another way.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from mrs.cli import parser

HEAD = """\
# Commands

<!-- Made by: python -m mrs.commands.reference > docs/commands.md -->

`mrs-trt COMMAND --help` prints the same. Results go to stdout, progress and errors to stderr. An error is one line,
`error: what was wrong; hint: what to do`. Control characters in names and files are shown as `\\u001b`. Exit codes: 0,
all went well; 1, some of several pictures failed, `doctor` found no backend, or stdout is closed or full; 2, a wrong
input, which left no file behind; 130, interrupted by Ctrl-C; 141, the reader of the output went away. Progress that
cannot be written is lost, and the work is done all the same.
"""


def reference() -> str:
    """The page, as Markdown."""
    made = parser()
    commands = next(action for action in made._actions if isinstance(action, argparse._SubParsersAction))
    parts = [HEAD]
    for name, command in commands.choices.items():
        description = textwrap.fill(" ".join((command.description or "").split()), 120)
        parts.append(f"\n## mrs-trt {name}\n\n{description}\n")
        parts += _tables(command)
        if command.epilog:
            parts.append(f"\n```text\n{command.epilog}\n```\n")
    return "".join(parts)


def _tables(command: argparse.ArgumentParser) -> Iterator[str]:
    """One table per group of arguments."""
    for group in command._action_groups:
        actions = [action for action in group._group_actions if shown(action)]
        if not actions:
            continue
        if group.title not in ("positional arguments", "options"):
            yield f"\n{_sentence(': '.join(filter(None, (group.title, group.description))))}\n"
        yield f"\n| {'option' if actions[0].option_strings else 'argument'} | meaning |\n|---|---|\n"
        for action in actions:
            yield f"| `{_signature(action)}` | {action.help}{', required' if _must(action) else ''} |\n"


def shown(action: argparse.Action) -> bool:
    """Whether an argument is explained; the ones that refuse are not."""
    return action.dest != "help" and action.help != argparse.SUPPRESS


def _signature(action: argparse.Action) -> str:
    """The flags and the names of the values, such as `-o, --output PLAN`."""
    named = action.metavar or action.dest.upper()
    value = "|".join(map(str, action.choices or ())) or (named if isinstance(named, str) else " ".join(named))
    if not action.option_strings:
        return f"{value}..." if action.nargs == "+" else str(value)
    flags = ", ".join(action.option_strings)
    return (flags if action.nargs == 0 else f"{flags} {value}").replace("|", "\\|")


def _must(action: argparse.Action) -> bool:
    return bool(action.required and action.option_strings)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


if __name__ == "__main__":
    print(reference(), end="")
