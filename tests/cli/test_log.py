"""What -v shows, and the log file of the data home."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from asdbench.cli.log import N_LOG_FILES, configure_logging
from asdbench.cli.main import main
from asdbench.data.sets import catalog
from asdbench.engine.events import LOGGERS
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("verbose", "shown"),
    [(0, ["careful"]), (1, ["careful", "informed"]), (2, ["careful", "informed", "detailed"])],
)
def test_standard_error_takes_the_levels_asked_for_and_the_file_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verbose: int, shown: list[str]
) -> None:
    configure_logging(verbose, tmp_path / "logs")
    logger = logging.getLogger("asdbench.engine.somewhere")
    logger.warning("careful")
    logger.info("informed")
    logger.debug("detailed")
    messages = ("careful", "informed", "detailed")
    printed = capsys.readouterr()
    assert [message for message in messages if message in printed.err] == shown
    assert printed.out == ""
    (file,) = (tmp_path / "logs").iterdir()
    lines = file.read_text().splitlines()
    assert [line.partition("asdbench.engine.somewhere: ")[2] for line in lines] == [*messages]


def test_a_second_call_replaces_the_handlers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(1, tmp_path / "first")
    configure_logging(1, tmp_path / "second")
    logging.getLogger("asdbench").info("once")
    assert capsys.readouterr().err.count("once") == 1
    assert not (tmp_path / "first").exists()


def test_the_oldest_log_files_are_deleted(tmp_path: Path) -> None:
    for number in range(N_LOG_FILES + 3):
        (tmp_path / f"20200101-{number:06d}-1.log").write_text("")
    configure_logging(0, tmp_path)
    logging.getLogger("asdbench").info("newest")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == N_LOG_FILES
    assert "newest" in (tmp_path / names[-1]).read_text()


def test_a_folder_that_cannot_be_written_is_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    configure_logging(0, tmp_path / "file" / "logs")
    logging.getLogger("asdbench").info("one")
    assert capsys.readouterr().err == ""


def test_v_shows_what_a_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "tiny", machine_types=("fan",)))
    run = ("run", "baseline-mse", "--data", "tiny", "--local", "--set", "epochs=2", "hidden=8", "-v")
    with pytest.raises(SystemExit) as stop:
        main(run)
    assert stop.value.code == 0
    printed = capsys.readouterr().err
    assert (
        "running 1 jobs: asdbench run baseline-mse --data tiny --seeds 0 --set epochs=2 hidden=8" in printed
    )
    assert "start: " in printed
    (file,) = (tmp_path / "home" / "logs").iterdir()
    assert "INFO asdbench.engine.run_task: start: " in file.read_text()
