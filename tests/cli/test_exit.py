"""Exit codes, and one sentence for bad input and interruptions."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from asdbench import registry
from asdbench.cli.exit import guarded
from asdbench.errors import InfrastructureError, InputError
from tests.commands import asdbench

INTERRUPTED = "\nasdbench: interrupted; finished work is kept, run the same command again to resume\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("no data set 'x'"), 2, "asdbench: no data set 'x'\n"),
        (InfrastructureError("the storage 's3://b' is away"), 1, "asdbench: the storage 's3://b' is away\n"),
        (
            KeyboardInterrupt(),
            130,
            "\nasdbench: interrupted; finished work is kept, run the same command again to resume\n",
        ),
        (BrokenPipeError(), 1, ""),
    ],
)
@pytest.mark.usefixtures("home")
def test_an_error_becomes_a_code_and_a_message(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = App(suppress_keyboard_interrupt=False)

    @app.default
    def fail() -> None:
        raise error

    assert guarded(app, []) == code
    assert capsys.readouterr().err == message


def test_presets_that_are_given_twice_are_told_how(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("run", "baseline-mse", "--data", "x", "--preset", "fast", "--preset", "altered") == 2
    assert capsys.readouterr().err.endswith("with commas: --preset fast,altered\n")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("words", [["--gpus-per-worker", "0.5"], ["--gpus-per-worker=0.5"]])
def test_a_replaced_option_names_the_new_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("run", "baseline-mse", "--data", "x", *words) == 2
    message = "--gpus-per-worker is replaced by --jobs-per-gpu, the number of trainings that share a GPU"
    assert capsys.readouterr().err == f"asdbench: {message}: give 2 in place of 0.5\n"


@pytest.fixture
def default_sigterm() -> Iterator[None]:
    """SIGTERM as a new process has it; a cluster of an earlier test leaves a handler of Ray behind."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("home", "default_sigterm")
def test_sigterm_ends_a_command_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    app = App(suppress_keyboard_interrupt=False)

    @app.default
    def run() -> None:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # which would end this process
        signal.raise_signal(signal.SIGTERM)

    assert guarded(app, []) == 130
    assert capsys.readouterr().err == INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("home")
def test_an_error_in_a_system_shows_the_systems_code_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App()

    @app.default
    def fail() -> None:
        raise KeyError("n_mels")

    with pytest.raises(KeyError):  # the platform's own errors keep all frames
        guarded(app, [])
    monkeypatch.setattr(registry, "plugin_modules", lambda: [Path(__file__)])
    assert guarded(app, []) == 1
    shown = capsys.readouterr().err
    assert 'File "test_exit.py", line' in shown
    assert "exit.py" not in shown.replace("test_exit.py", "")
    assert shown.endswith("KeyError: 'n_mels'\nasdbench: this is an error in a system's code\n")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_command_gives_its_exit_code(result: int | None, code: int) -> None:
    app = App()
    app.default(lambda: result)
    assert guarded(app, []) == code


@pytest.mark.usefixtures("home")
def test_an_unknown_option_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    app = App()
    app.default(lambda: None)
    assert guarded(app, ["--nothing"]) == 2
    assert "--nothing" in capsys.readouterr().err
