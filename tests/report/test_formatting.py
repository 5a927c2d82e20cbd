import io

import pytest
from rich.console import Console

from asdbench.report.formatting import (
    format_count,
    format_duration,
    format_percent,
    format_settings,
    format_trials,
    print_message,
    print_note,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119.4, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (None, "–")],
)
def test_durations_have_the_unit_that_reads_best(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_percent_has_two_decimals_and_a_sign_on_request() -> None:
    assert [format_percent(value) for value in (0, 0.12345, 1, None)] == ["0.00", "12.35", "100.00", "–"]
    assert [format_percent(value, signed=True) for value in (0.01, -0.01)] == ["+1.00", "-1.00"]


def test_counts_have_metric_prefixes() -> None:
    assert [format_count(value) for value in (999, 1000, 2.5e6, 3e9)] == ["999", "1 k", "2.5 M", "3 G"]


def test_trials_are_plural_but_for_one() -> None:
    assert [format_trials(number) for number in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]


def test_settings_are_short() -> None:
    settings = {"rate": 0.123456, "epochs": 3, "members": ("a", "b"), "cap": None}
    assert format_settings(settings) == ["rate=0.1235", "epochs=3", "members=a,b", "cap=none"]


def test_messages_are_neither_wrapped_nor_marked_up() -> None:
    file = io.StringIO()
    console = Console(file=file, width=20, force_terminal=True)
    message = "[red]a message with 12 words that is longer than the terminal is wide"
    print_message(console, message)
    print_note(console, message)
    assert file.getvalue() == f"{message}\nnote: {message}\n"
