"""A new system is written whole, or not at all, and works at once."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asdbench.driver import scaffold
from asdbench.driver.scaffold import write_system
from asdbench.errors import InputError
from tests.plugins import install, run_suite

ROOT = Path(__file__).parents[2]
LONG_NAME = "conditional-normalizing-flow-of-patches2"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which looks like a checkout of asdbench."""
    for folder in ("systems", "platform/asdbench", "tests/systems"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "systems/__init__.py").touch()
    monkeypatch.chdir(tmp_path / "tests")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_checkout_gets_two_files(checkout: Path) -> None:
    before = files(checkout)
    new = write_system("my-method")
    assert (new.folder, new.is_read) == (checkout, False)
    assert files(checkout) - before == {"systems/my_method.py", "tests/systems/test_my_method.py"}
    assert "class MyMethod(System[Config]):" in (checkout / new.system).read_text()
    assert 'system = "my-method"' in (checkout / new.test).read_text()
    assert not re.search("my.?detector", (checkout / new.system).read_text(), flags=re.IGNORECASE)


def test_the_checkout_of_this_installation_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    monkeypatch.setattr(scaffold.registry, "plugin_modules", lambda: [checkout / "systems"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(Path, "cwd", lambda: Path("/"))
    new = write_system("my-method")
    assert (new.folder, new.is_read) == (checkout, True)


def test_without_a_checkout_the_message_gives_a_command_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scaffold.registry, "plugin_modules", lambda: [tmp_path / "site-packages/systems"])
    with pytest.raises(InputError, match="write a package with 'asdbench new-system my-method --package'"):
        write_system("my-method")
    with pytest.raises(InputError, match=re.escape(f"{str(tmp_path)!r} is no checkout of asdbench")):
        write_system("my-method", output=tmp_path)
    assert write_system("my-method", package=True).folder == tmp_path / "my-method"


@pytest.mark.parametrize("taken", ["systems/my_method.py", "tests/systems/test_my_method.py"])
def test_an_existing_file_is_kept_and_nothing_is_written(checkout: Path, taken: str) -> None:
    (checkout / taken).write_text("mine")
    before = files(checkout)
    with pytest.raises(InputError, match=f"{taken}' exists; choose another name"):
        write_system("my-method")
    assert files(checkout) == before
    assert (checkout / taken).read_text() == "mine"


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "my-method").mkdir()
    with pytest.raises(InputError, match="exists; choose another name or --output"):
        write_system("my-method", package=True, output=tmp_path)
    assert files(tmp_path) == set()


def test_a_package_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(template: str, name: str) -> str:
        if "test" in template:
            raise OSError(28, "No space left on device")
        return ""

    monkeypatch.setattr(scaffold, "_content", full)
    with pytest.raises(InputError, match="No space left on device; choose another --output"):
        write_system("my-method", package=True, output=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize(
    ("name", "reason", "suggestion"),
    [
        ("My_Detector", "words of lower-case letters", "my-detector"),
        ("MyDetector", "words of lower-case letters", "my-detector"),
        ("my detector!", "words of lower-case letters", "my-detector"),
        ("../x", "words of lower-case letters", "x"),
        ("-", "words of lower-case letters", "my-detector"),
        ("2020-winner", "words of lower-case letters", "detector-2020-winner"),
        ("a" * 60, "has 60 characters", "a" * 31),
        ("baseline-mse", "systems/baseline_mse.py has this name", "baseline-mse-detector"),
        ("class", "is a keyword of Python", "class-detector"),
        ("input-spec", "its class would have the name of asdbench's InputSpec", "input-spec-detector"),
    ],
)
def test_a_bad_name_gives_one_that_works(
    checkout: Path, name: str, reason: str, suggestion: str, package: bool
) -> None:
    with pytest.raises(InputError, match=reason) as error:
        write_system(name, package=package, output=checkout)
    command = shlex.split(str(error.value).partition("; try ")[2].strip("'"))
    assert command == ["asdbench", "new-system", suggestion, *(["--package"] if package else [])]
    assert write_system(command[2], package=package, output=checkout).name == suggestion


def test_a_package_cannot_hide_an_installed_module(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the module 'polars' is installed already; try .*polars-detector"):
        write_system("polars", package=True, output=tmp_path)


@pytest.mark.parametrize("name", ["mine", LONG_NAME])
@pytest.mark.parametrize("package", [False, True])
def test_ruff_has_no_complaint(checkout: Path, name: str, package: bool) -> None:
    """In a checkout with its settings, in a package with ruff's own."""
    if not package:
        (checkout / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    new = write_system(name, package=package, output=checkout)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(new.system), str(new.test)]
        done = subprocess.run(ruff, cwd=new.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_package_passes_the_conformance_suite(tmp_path: Path) -> None:
    new = write_system("my-method", package=True, output=tmp_path)
    pyproject = (new.folder / "pyproject.toml").read_text()
    [(name, value)] = re.findall(r'^(my-method) = "(.*)"$', pyproject, flags=re.MULTILINE)
    install(new.folder / "src", name, value)
    code, output = run_suite(new.folder, str(new.test), new.folder / "src")
    assert code == 0, output
    [passed] = re.findall(r"^(\d+) passed", output, flags=re.MULTILINE)
    assert int(passed) >= 14
