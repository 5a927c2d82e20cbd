"""A report as one HTML file, as PDF and as PNG files.

Idea: the page contains everything that it shows, and its content security policy forbids it to load anything.
There is no script. Names of files, systems and machine types are escaped by the template engine; the SVG of
figures escapes its own text.

Equal results give equal bytes: the page contains no date.
"""

import io
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from asdbench import __version__
from asdbench.report.blocks import Drawing, Figures, Section, slug
from asdbench.report.figures import style
from asdbench.report.leaderboard_table import METRIC_NAMES
from asdbench.report.rendering import DisplayTable
from asdbench.report.report_data import ReportData, is_ours

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure
    from rich.text import Text

_DASHES = ("none", "5 3", "7 2 1.5 2", "1.5 2.5", "7 2 1.5 2 1.5 2", "10 3")  # as `style.LINE_STYLES`


def to_html(report: ReportData, sections: Sequence[Section]) -> str:
    """Return a report as an HTML page; ``sections`` are those of `asdbench.report.sections.sections`."""
    n_seeds = len({seed for row in report.type_rows for seed in row["seeds"]})
    rule = report.data.rule
    clips = report.data.clips.filter(subset=report.subset, split="test")
    return _template().render(
        title=f"Anomalous sound detection on {report.data.name}{report.data.suffix(report.subset)}",
        lead=(
            f"Detectors are trained on normal recordings only. The official score is the {rule.mean} mean of "
            f"{', '.join(METRIC_NAMES[name] for name in rule.metrics)} over machine types and sections."
        ),
        facts=[
            ("machine types", len(report.machine_types)),
            ("test clips", f"{clips.height:,}"),
            ("systems", len({row["system"] for row in report.rows if is_ours(row)})),
            ("seeds", n_seeds),
        ],
        notes=report.notes,
        sections=sections,
        colors=style.COLORS,
        dashes=_DASHES,
        footer=(
            f"Made by asdbench {__version__}. Data fingerprint {report.data.fingerprint()}. Values are in "
            f"percent unless stated otherwise."
        ),
        svg=_svg,
        text=_text,
        is_bold=_is_bold,
        shown_columns=_shown_columns,
    )


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("asdbench.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html")


def _svg(drawing: Drawing) -> str:
    from markupsafe import Markup

    return Markup(
        style.to_svg(drawing.figure, name=drawing.name, title=drawing.title, description=drawing.description)
    )


def _text(cell: "str | Text") -> str:
    """Return the text of a cell; the table is made for Markdown, where a backtick begins code."""
    return (cell if isinstance(cell, str) else cell.plain).strip("`")


def _shown_columns(table: DisplayTable) -> list[int]:
    """Return the places of the columns that have a value in any row."""
    return [
        place for place in range(len(table.columns)) if any(_text(row.cells[place]) for row in table.rows)
    ]


def _is_bold(cell: "str | Text") -> bool:
    return not isinstance(cell, str) and "bold" in str(cell.style)


def whole_figures(sections: Iterable[Section]) -> list[tuple[str, str, "Figure"]]:
    """Return the name, the caption and the figure of all panels of each block, in the order of the page."""
    figures = []
    for section in sections:
        for block in section.blocks:
            if not isinstance(block, Figures):
                continue
            if block.whole is None:
                figures += [(item.name, block.caption, item.figure) for item in block.drawings]
            else:
                figures.append((slug(section.name, block.heading), block.caption, block.whole()))
    return [
        (name if name not in names[:place] else f"{name}-{place + 1}", caption, figure)
        for names in [[name for name, _, _ in figures]]
        for place, (name, caption, figure) in enumerate(figures)
    ]


def to_pngs(sections: Iterable[Section]) -> dict[str, bytes]:
    """Return the figures as PNG files by file name."""
    return {f"{name}.png": style.to_png(figure) for name, _, figure in whole_figures(sections)}


def to_pdf(sections: Iterable[Section]) -> bytes:
    """Return the figures as a PDF file, a page for each, with its caption below."""
    from matplotlib.backends.backend_pdf import PdfPages

    content = io.BytesIO()
    with (
        style.parameters(),
        PdfPages(content, metadata={"CreationDate": None, "ModDate": None, "Producer": None}) as pages,
    ):
        for _, caption, figure in whole_figures(sections):
            width, height = figure.get_size_inches()
            below = figure.text(
                0.01,
                -0.12 / height,
                _wrapped(caption, int(width * 15)),
                verticalalignment="top",
                color=style.color("muted"),
                fontsize=8,
            )
            pages.savefig(figure, bbox_inches="tight", pad_inches=0.2)
            below.remove()
    return content.getvalue()


def _wrapped(text: str, columns: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, max(columns, 40)))
