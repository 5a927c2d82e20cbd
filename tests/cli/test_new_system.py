"""What is printed about a new system are commands that work."""

from pathlib import Path

import pytest

from asdbench.cli.main import app


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    app(["new-system", "my-detector", *arguments], result_action="return_value")
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems/__init__.py").touch()
    (tmp_path / "platform/asdbench").mkdir(parents=True)
    return tmp_path


def test_the_test_runs_where_pytest_is_installed(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "--output", str(checkout))
    assert f"test it: python -m pytest {checkout}/tests/systems/test_my_detector.py" in said


def test_pytest_is_installed_first_where_it_is_missing(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdbench.cli.new_system.find_spec", lambda name: None)
    said = printed(capsys, "--output", str(checkout))
    assert "test it: pip install pytest && python -m pytest" in said


def test_a_package_is_installed_with_what_its_test_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed(capsys, "--package", "--output", str(tmp_path))
    assert f"install it: pip install -e '{tmp_path}/my-detector[dev]'" in said
    assert "test it: python -m pytest" in said
    assert '"pytest"' in (tmp_path / "my-detector/pyproject.toml").read_text()
