"""The blocks of a report: sections with text, figures, tables and clips."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from asdbench.report.rendering import DisplayTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with the words that stand for it.

    Attributes
    ----------
    name : what distinguishes it in the report, from letters, digits and hyphens
    title, description : what a screen reader says
    figure : the figure
    """

    name: str
    title: str
    description: str
    figure: "Figure"


@dataclass(frozen=True)
class LegendEntry:
    """An entry of a legend that several panels share: the label, a color's name, and a line style's index."""

    label: str
    color: str
    dashes: int = 0
    shape: str = "line"


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures with a caption: one, or a panel for each machine type.

    Attributes
    ----------
    drawings : the panels of the page
    caption : what they show
    whole : draws all panels as one figure, for PNG and PDF; without it each is a figure of its own
    legend : of all panels
    table : the values
    heading : above the panels; with ``is_open`` false, the page shows the panels when it is clicked
    is_open : whether the page shows the panels at once
    """

    drawings: Sequence[Drawing]
    caption: str
    whole: "Callable[[], Figure] | None" = None
    legend: Sequence[LegendEntry] = ()
    table: DisplayTable | None = None
    heading: str = ""
    is_open: bool = True


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip with its facts, spectrogram and sound."""

    heading: str
    facts: Sequence[tuple[str, str]]
    drawing: Drawing | None
    mp3: str


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips under a heading."""

    heading: str
    clips: Sequence[Clip]


Block: TypeAlias = Figures | Clips | DisplayTable


@dataclass(frozen=True, eq=False)
class Section:
    """A section of a report.

    Attributes
    ----------
    name : its anchor
    title : its heading
    paragraphs : text before the blocks
    blocks : figures, tables and clips
    """

    name: str
    title: str
    paragraphs: Sequence[str]
    blocks: Sequence[Block]


def slug(*parts: str) -> str:
    """Return a name for files and anchors.

    >>> slug("roc", "Toy Car/<b>")
    'roc-Toy-Car-b'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-") or "x"


def one(drawing: Drawing, caption: str, table: DisplayTable | None = None) -> Figures:
    """Return a single figure with its caption and the table of its values."""
    return Figures([drawing], caption, table=table)


def percent(fraction: float) -> str:
    """Return a fraction in percent, in words of a sentence.

    >>> percent(0.5)
    '50.0 %'
    """
    return f"{100 * fraction:.1f} %"
