"""What all figures have in common: colors, sizes, axes, and SVG for a page.

Idea: a figure is drawn once, in the colors of the light theme. `to_svg` replaces each of these colors by the
CSS variable of its name, so that a page changes the colors of its figures with its theme. Text stays text: it
is smaller than outlines, can be searched and selected, and takes the font of the page.

The series colors are those of Okabe and Ito, darkened where they have less than 3:1 contrast with the page,
and every series has a line style of its own too, so that no figure needs color to be read.

Source: M. Okabe and K. Ito, "Color universal design", 2008, https://jfly.uni-koeln.de/color/.
"""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ThemeColor:
    """A color of the light theme, as figures are drawn, and of the dark theme."""

    light: str
    dark: str


COLORS = {
    "ink": ThemeColor("#1b1f24", "#e8ebef"),
    "muted": ThemeColor("#57606b", "#a3adb9"),
    "grid": ThemeColor("#dfe3e8", "#343b45"),
    "surface": ThemeColor("#fefefe", "#161a20"),
    "series-1": ThemeColor("#0068a8", "#5ab4f0"),
    "series-2": ThemeColor("#c44f00", "#ff9447"),
    "series-3": ThemeColor("#00805d", "#33cfa0"),
    "series-4": ThemeColor("#a03c7a", "#ee9ac8"),
    "series-5": ThemeColor("#8a6700", "#e8c23c"),
    "series-6": ThemeColor("#5a4fcf", "#a9a2ff"),
    "normal": ThemeColor("#0069a9", "#5bb5f1"),
    "anomaly": ThemeColor("#c55000", "#ff9548"),
    "threshold": ThemeColor("#1b2024", "#e8ecef"),
    "positive": ThemeColor("#0069aa", "#3f93cf"),
    "negative": ThemeColor("#c55100", "#d8782f"),
}
"""By name of their CSS variable; the light colors differ, so that each can be recognized."""

LINE_STYLES: Sequence[Any] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = "osD^vP"
N_SERIES = 6
"""Number of series that can be told apart in one figure."""

_LEFT_IN, _RIGHT_IN, _BOTTOM_IN, _TOP_IN = 0.52, 0.12, 0.44, 0.3  # margins of a panel
_PANEL_IN = 2.5  # width; four panels fill a page
_TITLE_LENGTH = 24  # of a panel, in characters
_PIXELS_PER_POINT = 1.5  # an eighth larger than in print
_LEAST_SCALE = 0.7  # of a figure on a narrow page, which scrolls beyond
_NAMES = {color.light: name for name, color in COLORS.items()}
_FONT = "DejaVu Sans"
_PARAMETERS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": _FONT,
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.linewidth": 0.8,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "path.simplify": True,
    "text.parse_math": False,
}


def color(name: str) -> str:
    """Return a color of the light theme by name.

    >>> color("ink")
    '#1b1f24'
    """
    return COLORS[name].light


def series_color(index: int) -> str:
    """Return the color of a series; there are `N_SERIES`, then they repeat."""
    return color(f"series-{index % N_SERIES + 1}")


def parameters() -> Any:
    """Return a context in which matplotlib draws in the style of the report."""
    import matplotlib as mpl

    ink, muted = color("ink"), color("muted")
    settings: Any = _PARAMETERS | {
        "figure.facecolor": color("surface"),
        "savefig.facecolor": color("surface"),
        "axes.facecolor": color("surface"),
        "text.color": ink,
        "axes.labelcolor": muted,
        "axes.titlecolor": ink,
        "axes.edgecolor": muted,
        "xtick.color": muted,
        "ytick.color": muted,
        "grid.color": color("grid"),
    }
    return mpl.rc_context(settings)


def new_figure(width_in: float, height_in: float) -> "Figure":
    """Return an empty figure that no global state knows; call it within `parameters`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def shortened(label: str, length: int) -> str:
    """Return a label of at most ``length`` characters.

    >>> shortened("compressor", 6), shortened("fan", 6)
    ('compr…', 'fan')
    """
    return label if len(label) <= length else f"{label[: length - 1]}…"


def panel_title(name: str) -> str:
    """Return a name as the title of a panel, shortened to its width."""
    return shortened(name, _TITLE_LENGTH)


def panels(
    n_panels: int,
    *,
    height_in: float,
    width_in: float = _PANEL_IN,
    most_columns: int = 4,
    left_in: float = _LEFT_IN,
    has_title: bool = True,
) -> tuple["Figure", list["Axes"]]:
    """Return a figure with a grid of panels, each of the given size, and its axes in reading order.

    The margins are fixed, which takes a third of the time of a computed layout.
    """
    from matplotlib.figure import Figure

    n_columns = max(1, min(n_panels, most_columns))
    n_rows = max(1, -(-n_panels // n_columns))
    figure = Figure(figsize=(n_columns * width_in, n_rows * height_in))
    top = _TOP_IN if has_title else _RIGHT_IN
    axes = []
    for place in range(n_panels):
        row, column = divmod(place, n_columns)
        x_in = column * width_in + left_in
        y_in = (n_rows - 1 - row) * height_in + _BOTTOM_IN
        size_in = (width_in - left_in - _RIGHT_IN, height_in - _BOTTOM_IN - top)
        axes.append(
            figure.add_axes(
                (
                    x_in / (n_columns * width_in),
                    y_in / (n_rows * height_in),
                    size_in[0] / (n_columns * width_in),
                    size_in[1] / (n_rows * height_in),
                )
            )
        )
    return figure, axes


def to_svg(figure: "Figure", *, name: str, title: str, description: str) -> str:
    """Return a figure as an SVG element for a page, with its colors as CSS variables.

    All figures have the same scale on a page, so that their texts have the same size.

    Parameters
    ----------
    figure
        A figure in the colors of `COLORS`.
    name
        What distinguishes the figure on its page; identifiers within the SVG begin with it.
    title, description
        What a screen reader says in place of the figure.

    Examples
    --------
    >>> with parameters():
    ...     figure = new_figure(1, 1)
    ...     _ = figure.text(0, 0, "a")
    ...     svg = to_svg(figure, name="text", title="Text", description="A <short> text.")
    >>> svg[:29], "var(--ink)" in svg, "A &lt;short&gt; text." in svg
    ('<svg class="figure" role="img', True, True)
    """
    import matplotlib as mpl

    content = io.StringIO()
    with parameters(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            content,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _inline(content.getvalue(), name=name, title=title, description=description)


def to_png(figure: "Figure", *, dpi: int = 160) -> bytes:
    """Return a figure as a PNG file; equal figures give equal bytes."""
    content = io.BytesIO()
    with parameters():
        figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def _inline(svg: str, *, name: str, title: str, description: str) -> str:
    """Return the SVG element of a file for a page: accessible, themed, with identifiers of its own."""
    opening, body = re.search(r"<svg [^>]*>", svg), svg[svg.index("<defs>") if "<defs>" in svg else 0 :]
    assert opening is not None
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening.group()).groups()  # type: ignore[union-attr]
    body = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = _own_identifiers(body, name)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda match: _variable(match.group()), body)
    body = re.sub(rf"'{_FONT}'[^;\"]*", "var(--font)", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = re.sub(r"\n\s*", "\n", body)
    pixels = float(width) * _PIXELS_PER_POINT
    labels = f"{name}-title {name}-description"
    return (
        f'<svg class="figure" role="img" aria-labelledby="{labels}" viewBox="0 0 {width} {height}" '
        f'style="width:{pixels:.0f}px;max-width:100%;min-width:{_LEAST_SCALE * pixels:.0f}px">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-description">{html.escape(description)}</desc>\n{body}'
    )


def _own_identifiers(body: str, name: str) -> str:
    """Drop identifiers that nothing refers to, and let the others begin with the figure's name."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(
        r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", body
    )
    return re.sub(r'(href="#|url\(#)([^")]+)', lambda match: f"{match[1]}{name}-{match[2]}", body)


def _variable(light: str) -> str:
    return f"var(--{_NAMES[light]})" if light in _NAMES else light
