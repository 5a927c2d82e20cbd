"""The command ``asdbench report``."""

from pathlib import Path

from asdbench.cli.options import Flag, Strings, Subset, Threshold
from asdbench.cli.output import print_result


def report(
    *,
    data: str,
    systems: Strings = (),
    output: Path | None = None,
    pdf: Flag = False,
    png: Path | None = None,
    subset: Subset | None = None,
    threshold: Threshold = "empirical",
) -> None:
    """Write a report on a data set as one HTML file: scores, intervals, figures, the worst errors to hear.

    Parameters
    ----------
    data
        Name of a registered data set.
    systems
        Names of the systems to show (default: all that have results).
    output
        HTML file to write (default: report-DATA.html in the current folder).
    pdf
        Write the figures as a PDF file too, next to the HTML file.
    png
        Folder in which to write each figure as a PNG file too.
    subset
        dev (development) or eval (evaluation) (default: dev if any of its test clips has a label, else eval).
    threshold
        Decision-threshold method.
    """
    from asdbench.api.surroundings import results_of
    from asdbench.driver.report import ReportRequest, write_report

    request = ReportRequest(
        data,
        systems=systems,
        output=output or Path(f"report-{data}.html"),
        has_pdf=pdf,
        png_folder=png,
        subset=subset,
        threshold=threshold,
    )
    for path in write_report(request, results_of()):
        print_result(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
