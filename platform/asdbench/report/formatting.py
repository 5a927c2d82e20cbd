"""How reports write numbers and settings, and how they print messages.

Conventions: fractions are shown in percent, times with a unit; a value that does not exist is an en dash.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asdbench.config import typed

if TYPE_CHECKING:
    from rich.console import Console

MISSING = "–"


def format_percent(fraction: float | None, *, signed: bool = False) -> str:
    """Return a fraction in percent, with two decimals and without the percent sign.

    >>> format_percent(0.61234), format_percent(0.005, signed=True), format_percent(None)
    ('61.23', '+0.50', '–')
    >>> format_percent(-0.00001, signed=True)
    '+0.00'
    """
    if fraction is None:
        return MISSING
    percent = round(100 * fraction, 2) + 0.0  # without the sign of a negative zero
    return f"{percent:+.2f}" if signed else f"{percent:.2f}"


def format_duration(seconds: float | None) -> str:
    """Return a duration in seconds, minutes or hours, whichever reads best.

    >>> format_duration(90), format_duration(600), format_duration(9000), format_duration(None)
    ('90 s', '10 min', '2.5 h', '–')
    """
    if seconds is None:
        return MISSING
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_count(number: float | None) -> str:
    """Return a large number with three digits and a metric prefix.

    >>> format_count(950), format_count(2_500_000), format_count(None)
    ('950', '2.5 M', '–')
    """
    if number is None:
        return MISSING
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.0f}"


def format_amount(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun; the plural has an s if none is given.

    >>> format_amount(1, "result"), format_amount(2_000, "search", "searches")
    ('1 result', '2,000 searches')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def format_number(number: float | None) -> str:
    """Return a number rounded to an integer, with thousands separators.

    >>> format_number(12345.6), format_number(None)
    ('12,346', '–')
    """
    return MISSING if number is None else f"{number:,.0f}"


def format_trials(n_trials: int) -> str:
    """Return a number of trials.

    >>> format_trials(1), format_trials(2000)
    ('1 trial', '2,000 trials')
    """
    return f"{n_trials:,} trial{'' if n_trials == 1 else 's'}"


def format_search(tuned: Mapping[str, Any]) -> str:
    """Return how much searching chose the settings of a row: trials of settings, and weight vectors.

    >>> format_search({"trials": 20}), format_search({"trials": 40, "weight_vectors": 4_000})
    ('dev-tuned, 20 trials', 'dev-tuned, 40 trials, 4,000 weight vectors')
    >>> format_search({"trials": 0, "weight_vectors": 300})
    'dev-tuned, 300 weight vectors'
    """
    n_weight_vectors = tuned.get("weight_vectors", 0)
    trials = [format_trials(tuned["trials"])] if tuned["trials"] or not n_weight_vectors else []
    weights = [format_amount(n_weight_vectors, "weight vector")] if n_weight_vectors else []
    return ", ".join(["dev-tuned", *trials, *weights])


def format_p_value(p_value: float) -> str:
    """Return a p-value with four decimals.

    >>> format_p_value(0.0371), format_p_value(1e-6)
    ('0.0371', '< 0.0001')
    """
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.4f}"


def format_settings(settings: Mapping[str, object]) -> list[str]:
    """Return each setting as ``name=value``, floats with four digits.

    >>> format_settings({"epochs": 30, "learning_rate": 0.00123456, "bf16": True})
    ['epochs=30', 'learning_rate=0.001235', 'bf16=true']
    """
    return [
        f"{name}={f'{value:.4g}' if isinstance(value, float) else typed(value)}"
        for name, value in settings.items()
    ]


def print_message(console: "Console", message: str, *, style: str | None = None) -> None:
    """Print a message unchanged: brackets are not markup, and long lines are left to the terminal.

    >>> import sys
    >>> from rich.console import Console
    >>> print_message(Console(file=sys.stdout), "reading [source] clips")
    reading [source] clips
    """
    console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def print_note(console: "Console", note: str) -> None:
    """Print a note, something that the user should know and need not act on.

    >>> import sys
    >>> from rich.console import Console
    >>> print_note(Console(file=sys.stdout), "one clip is silent")
    note: one clip is silent
    """
    print_message(console, f"note: {note}")
