"""The shell completes commands and options."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands import asdbench

BASH = shutil.which("bash")


def completed(script: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    line = f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); COMP_CWORD={len(words) - 1}"
    code = f"source '{script}'; {line}; _asdbench; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    assert BASH is not None
    return subprocess.run([BASH, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_bash_completes_commands_options_and_choices(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert asdbench("--install-completion", "--shell", "bash") == 0
    (script,) = tmp_path.rglob("completions/asdbench")
    assert str(script) in (tmp_path / ".bashrc").read_text()
    assert completed(script, "asdbench", "lead") == ["leaderboard"]
    assert {"add", "demo", "list"} <= set(completed(script, "asdbench", "data", ""))
    assert completed(script, "asdbench", "leaderboard", "--to") == ["--top"]
    assert completed(script, "asdbench", "leaderboard", "--format", "ma") == ["markdown"]
