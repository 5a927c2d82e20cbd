"""The question before something is deleted."""

import io

import pytest

from asdbench.cli.confirm import is_confirmed
from asdbench.errors import InputError


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "answer"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False)])
def test_only_a_yes_confirms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, answer: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert is_confirmed("Remove it?", yes=False) is answer
    assert capsys.readouterr().out == "Remove it? [y/N] "


def test_the_end_of_input_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert not is_confirmed("Remove it?", yes=False)


def test_without_a_terminal_only_the_option_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(InputError, match="add --yes"):
        is_confirmed("Remove it?", yes=False)
    assert is_confirmed("Remove it?", yes=True)
