"""Writes the report of a data set: an HTML page and, on request, a PDF file and PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.io.files import replacing
from asdbench.io.workspace import Workspace
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.html import to_html, to_pdf, to_pngs
from asdbench.report.rendering import Row
from asdbench.report.report_data import SearchSummary, collect, stored_searches
from asdbench.report.sections import sections
from asdbench.search.importances import parameter_importances


@dataclass(frozen=True)
class ReportRequest:
    """What to report, and where to write it.

    Attributes
    ----------
    data : name of a registered data set
    systems : the systems to show, all if empty
    output : the HTML file
    has_pdf : whether to write the figures as PDF too, next to the page
    png_folder : folder for the figures as PNG, None for none
    subset : ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a label, else eval
    threshold : method of the decision threshold
    """

    data: str
    systems: Sequence[str] = ()
    output: Path = Path("report.html")
    has_pdf: bool = False
    png_folder: Path | None = None
    subset: str | None = None
    threshold: str = DEFAULT_THRESHOLD


def write_report(request: ReportRequest, workspace: Workspace) -> list[Path]:
    """Write a report and return the files that were written, the page first.

    Raises
    ------
    InputError
        The data set or a system does not exist, a system has no results, or a file cannot be written.
    """
    data, store = catalog.load(workspace, request.data), JobStore.from_workspace(workspace)
    report = collect(
        data,
        store,
        systems=request.systems,
        subset=request.subset,
        threshold=request.threshold,
        searches=[
            SearchSummary(record, parameter_importances(record)) for record in stored_searches(store, data)
        ],
    )
    parts = sections(report)
    contents = {request.output: to_html(report, parts).encode()}
    if request.png_folder is not None:
        contents |= {request.png_folder / name: content for name, content in to_pngs(parts).items()}
    if request.has_pdf:
        contents[request.output.with_suffix(".pdf")] = to_pdf(parts)
    for path, content in contents.items():
        _write(path, content)
    return list(contents)


def row_page(row: Row, data: DataSet, store: JobStore, *, subset: str) -> bytes:
    """Return the report on one row of the leaderboard, as an HTML page."""
    report = collect(data, store, only=row, subset=subset)
    return to_html(report, sections(report)).encode()


def _write(path: Path, content: bytes) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written ({error.strerror}); choose another place with --output or --png"
        ) from error
