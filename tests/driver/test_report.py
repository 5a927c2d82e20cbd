"""Writing a report."""

from pathlib import Path

import pytest

from asdbench.driver.report import ReportRequest, write_report
from asdbench.errors import InputError
from tests.report.made_up import made_up, save_study


def test_page_pdf_and_images_are_written(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, ["baseline-mse"], seeds=[0], machine_types=["fan"])
    save_study(data, store)
    output, images = tmp_path / "out" / "page.html", tmp_path / "images"
    request = ReportRequest("tiny", ["baseline-mse"], output, has_pdf=True, png_folder=images)
    written = write_report(request, data.workspace)
    assert written[0] == output
    assert written[-1] == tmp_path / "out" / "page.pdf"
    assert set(written[1:-1]) == set(images.iterdir())
    assert "importances-0" in output.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    data, _ = made_up(tmp_path, [], machine_types=["fan"])
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"cannot be written .*; choose another place with --output or --png"
    ):
        write_report(ReportRequest("tiny", output=tmp_path / "file" / "page.html"), data.workspace)
