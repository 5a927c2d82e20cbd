"""Notes on recordings that can be used but look wrong: their samples, and their durations.

Each kind of problem gives one note, with counts by machine type and three examples.
"""

from collections.abc import Sequence

import polars as pl

FAULTS = {
    "silent": "silent (all samples are zero)",
    "constant": "constant (all samples are equal)",
    "silent channel": "silent on one of their channels",
    "beyond full scale": "beyond full scale (float samples outside -1 to 1, which are clipped)",
    "clipped": "clipped (one in a thousand samples or more is at full scale)",
    "offset": "offset (their mean is more than a tenth of full scale)",
}
_FAR = 4.0  # times the median duration
_N_EXAMPLES = 3
_N_TYPES = 5


def signal_notes(clips: pl.DataFrame) -> list[str]:
    """Return a note for each fault of samples that clips have.

    >>> clips = pl.DataFrame({"path": ["fan/a.wav"], "machine_type": ["fan"], "fault": ["silent"]})
    >>> signal_notes(clips)
    ['1 of 1 clips is silent (all samples are zero): fan/a.wav']
    """
    return [
        _note(clips.filter(pl.col("fault") == fault), text, clips.height)
        for fault, text in FAULTS.items()
        if (clips["fault"] == fault).any()
    ]


def duration_notes(clips: pl.DataFrame) -> list[str]:
    """Return notes on clips that are far shorter or far longer than the median of their machine type."""
    ratio = pl.col("duration_s") / pl.col("duration_s").median().over("machine_type")
    shown = pl.format("{} ({} s)", "path", pl.col("duration_s").round(2))
    kinds = {
        f"less than 1/{_FAR:.0f} as long as the median clip of their machine type": ratio < 1 / _FAR,
        f"more than {_FAR:.0f} times as long as the median clip of their machine type": ratio > _FAR,
    }
    return [
        _note(found.with_columns(path=shown), text, clips.height)
        for text, is_far in kinds.items()
        if (found := clips.filter(is_far)).height
    ]


def _note(found: pl.DataFrame, text: str, n_clips: int) -> str:
    """Return a note on some clips: how many there are, their machine types, and examples."""
    counts = (
        found["machine_type"].value_counts(sort=True).sort("count", "machine_type", descending=[True, False])
    )
    by_type = [f"{machine_type} {count}" for machine_type, count in counts.iter_rows()]
    types = f" [{', '.join(_first(by_type, _N_TYPES))}]" if len(by_type) > 1 else ""
    verb = "is" if found.height == 1 else "are"
    examples = ", ".join(_first(found["path"].sort().to_list(), _N_EXAMPLES))
    return f"{found.height:,} of {n_clips:,} clips {verb} {text}{types}: {examples}"


def _first(items: Sequence[str], count: int) -> list[str]:
    return [*items[:count], *([f"and {len(items) - count:,} more"] if len(items) > count else [])]
