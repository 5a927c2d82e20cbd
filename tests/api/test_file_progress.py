"""A progress bar over files."""

import io

from rich.console import Console

from asdbench.api.file_progress import FileProgress


def shown(*, is_terminal: bool, in_bytes: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
    with FileProgress("reading", console, in_bytes=in_bytes) as progress:
        progress(3_000_000, 6_000_000)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_bar_is_shown_on_a_terminal_only() -> None:
    assert "reading" in shown(is_terminal=True)
    assert "50%" in shown(is_terminal=True)
    assert shown(is_terminal=False) == ""


def test_bytes_have_a_unit() -> None:
    assert "3.0/6.0 MB" in shown(is_terminal=True, in_bytes=True)
    assert "MB" not in shown(is_terminal=True)
