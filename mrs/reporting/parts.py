"""What the page consists of: sections of figures, each with a plot, its table and the commands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrs.reporting.text import JsonObject, number

# Of what was not measured.
DASH = "\u2013"
# Texts up to this length stand on one line of a table.
SHORT = 48


@dataclass(frozen=True)
class Cell:
    """Of a table.

    Attributes:
        text: what it shows.
        value: by which it sorts; None where that is its text.
        tone: "good" or "bad" for verdicts, else "".
        short: whether it stands on one line.
    """

    text: str
    value: float | None = None
    tone: str = ""

    @classmethod
    def count(cls, value: int) -> Cell:
        """A whole number."""
        return cls(f"{value:,}", float(value))

    @property
    def short(self) -> bool:
        return len(self.text) <= SHORT

    @classmethod
    def of(cls, value: float | None) -> Cell:
        """A number; a dash for none."""
        return cls(DASH) if value is None else cls(number(value), value)


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Attributes:
        caption: what it shows.
        columns: their titles.
        rows: as many cells as there are columns.
        numeric: of each column, whether it holds numbers, which stand on the right.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def made(cls, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
        """Without the columns of which nothing was measured."""
        kept = [index for index in range(len(columns)) if any(row[index].text not in ("", DASH) for row in rows)]
        return cls(
            caption, tuple(columns[index] for index in kept), tuple(tuple(row[index] for index in kept) for row in rows)
        )

    @property
    def numeric(self) -> tuple[bool, ...]:
        return tuple(any(cell.value is not None for cell in column) for column in zip(*self.rows, strict=True))


@dataclass(frozen=True)
class Plot:
    """What the page's script draws.

    Attributes:
        kind: the function that draws it.
        alternative: in words, for who does not see it.
        data: for that function.
    """

    kind: str
    alternative: str
    data: JsonObject


@dataclass(frozen=True)
class Shown:
    """A picture on the page.

    Attributes:
        caption: beside it.
        role: as of `results.Picture`.
        source: a data address.
        height, width: in pixels.
    """

    caption: str
    role: str
    source: str
    height: int
    width: int


@dataclass(frozen=True)
class Figure:
    """A plot, a table, pictures, or several of them.

    Attributes:
        title: of it; "" where the section's says it all.
        commands: that measure it again.
        words: what a reader sees in it, or must know.
        plot, table, strip, compared: what there is; `strip` stands in a row, `compared` under a slider.
        open: whether the table is the figure, and not only what stands behind a plot.
    """

    title: str
    commands: tuple[str, ...]
    words: tuple[str, ...] = ()
    plot: Plot | None = None
    table: Table | None = None
    strip: tuple[Shown, ...] = ()
    compared: tuple[Shown, ...] = ()
    open: bool = False


@dataclass(frozen=True)
class Section:
    """Figures under a heading.

    Attributes:
        name: for links to it.
        title: of it.
        figures: at least one.
        words: before them.
    """

    name: str
    title: str
    figures: Sequence[Figure]
    words: tuple[str, ...] = ()
