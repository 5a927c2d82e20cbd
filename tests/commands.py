"""The command line, called in this process."""

import json
from typing import Any

import pytest

from asdbench.cli.main import main


def asdbench(*arguments: str) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def leaderboard(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Return the rows of the leaderboard of the data set ``tiny``."""
    capsys.readouterr()
    assert asdbench("leaderboard", "--data", "tiny", "--format", "json", *options) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows
