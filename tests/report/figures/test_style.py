"""Figures as SVG elements of a page: themed, accessible, self-contained, deterministic."""

import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from asdbench.report.figures import style

SVG = "{http://www.w3.org/2000/svg}"


def drawing(text: str = "a label") -> Figure:
    with style.parameters():
        figure = style.new_figure(2, 1)
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=style.series_color(1), marker="o")
        axis.set_title(text)
    return figure


def svg(name: str = "plot", text: str = "a label") -> str:
    return style.to_svg(drawing(text), name=name, title="A plot", description="It <rises> & ends.")


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_color_can_be_recognized_in_a_file() -> None:
    assert len({color.light for color in style.COLORS.values()}) == len(style.COLORS)


def test_text_and_series_have_contrast_in_both_themes() -> None:
    surface = style.COLORS["surface"]
    for name, color in style.COLORS.items():
        least = {"ink": 4.5, "muted": 4.5}.get(name, 3.0)
        if name not in ("grid", "surface"):
            assert contrast(color.light, surface.light) >= least, name
            assert contrast(color.dark, surface.dark) >= least, name


def test_the_page_colors_a_figure() -> None:
    text = svg()
    assert "var(--series-2)" in text
    assert style.color("surface") not in text
    assert style.color("series-2") not in text
    assert not set(re.findall(r"#[0-9a-f]{6}\b", text)) & {color.light for color in style.COLORS.values()}


def test_figures_have_one_scale_and_no_background() -> None:
    with style.parameters():
        texts = [
            style.to_svg(style.new_figure(inches, 1), name="f", title="", description="") for inches in (1, 3)
        ]
    assert ["width:108px;" in texts[0], "width:324px;" in texts[1]] == [True, True]
    assert "var(--surface)" not in texts[0]  # a shadow behind it shows that one can scroll


def test_a_screen_reader_finds_title_and_description() -> None:
    root = ElementTree.fromstring(svg().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))  # fmt: skip
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "plot-title plot-description"
    assert root.findtext(f"{SVG}title") == "A plot"
    assert root.findtext(f"{SVG}desc") == "It <rises> & ends."


def test_text_stays_text_and_is_escaped() -> None:
    text = svg(text="<b>fan</b> & $x_1$")
    assert "&lt;b&gt;fan&lt;/b&gt; &amp; $x_1$" in text
    assert "var(--font)" in text
    assert "DejaVu" not in text


def test_two_figures_share_no_identifier() -> None:
    first, second = (set(re.findall(r' id="([^"]+)"', svg(name))) for name in ("one", "two"))
    assert first
    assert not first & second
    text = svg("one")
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= first


def test_equal_figures_give_equal_bytes() -> None:
    assert svg() == svg()
    assert style.to_png(drawing()) == style.to_png(drawing())


def test_panels_fill_rows() -> None:
    with style.parameters():
        figure, axes = style.panels(5, width_in=2, height_in=1, most_columns=3)
    assert len(axes) == len(figure.axes) == 5
    assert figure.get_size_inches().tolist() == [6, 2]


def test_drawing_leaves_no_global_state() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    svg()
    assert dict(mpl.rcParams) == before
