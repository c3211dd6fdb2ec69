"""What the intents say, in what they draw and in what the command line offers."""

from __future__ import annotations

from mrs.commands import solver_options
from mrs.numerics.intents import INTENTS
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED
from mrs.numerics.tableau import tableau


def test_the_command_line_offers_them_all() -> None:
    assert tuple(INTENTS) == solver_options.INTENTS


def test_the_default_is_one_of_them() -> None:
    assert INTENTS["balanced"].solver == RECOMMENDED


def test_noise_rises_from_faithful_to_vivid() -> None:
    tables = [tableau(Schedule(), INTENTS[name].solver) for name in ("faithful", "balanced", "vivid")]
    assert [table.draws for table in tables] == [0, 0, 5]
    assert tables[0].start == 0 < tables[1].start < tables[2].start
