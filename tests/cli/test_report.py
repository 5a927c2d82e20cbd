"""The command ``asdbench report``."""

from pathlib import Path

import pytest

from asdbench.cli.main import main
from tests.report.made_up import made_up


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made_up(tmp_path, ["baseline-mse"], seeds=[0], machine_types=["fan"])
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_report_is_written_to_the_current_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", "--data", "tiny"])
    assert stop.value.code == 0
    assert (home / "report-tiny.html").stat().st_size > 50_000
    assert capsys.readouterr().out.startswith("report-tiny.html: 0.")


def test_a_system_without_results_is_bad_input(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", "--data", "tiny", "--systems", "adversarial"])
    assert stop.value.code == 2
    assert "run 'asdbench run adversarial --data tiny" in capsys.readouterr().err
    assert not (home / "report-tiny.html").exists()
