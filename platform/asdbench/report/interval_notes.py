"""Sentences about intervals: what was resampled, and why an interval is rough, absent or withheld."""

from collections.abc import Mapping

import polars as pl

from asdbench.metrics.resampled import LEAST_SEEDS, LEAST_TYPES
from asdbench.metrics.units import FEW_RECORDINGS, Kind


def resampled_note(kinds: Mapping[str, Kind]) -> str:
    """Return what was resampled of each machine type, or nothing if there is none.

    >>> resampled_note({"bearing": "recordings", "fan": "clips"})
    'Resampled: recordings (bearing), clips (fan).'
    >>> resampled_note({"fan": "clips", "valve": "clips"})
    'Resampled: clips.'
    """
    return f"Resampled: {listed_kinds(kinds)}." if kinds else ""


def listed_kinds(kinds: Mapping[str, Kind]) -> str:
    """Return kinds with the machine types of each; the only kind alone.

    >>> listed_kinds({"fan": "clips", "valve": "clips"})
    'clips'
    """
    types: dict[Kind, list[str]] = {}
    for machine_type, kind in kinds.items():
        types.setdefault(kind, []).append(machine_type)
    if len(types) == 1:
        return next(iter(types))
    return ", ".join(f"{kind} ({', '.join(types[kind])})" for kind in sorted(types, reverse=True))


def kinds_of_types(labeled: pl.DataFrame) -> dict[str, Kind]:
    """Return what is resampled of each machine type, and left out in turn by the jackknife.

    ``labeled`` has the columns ``machine_type``, ``section`` and ``recording``.

    >>> clips = pl.DataFrame({"machine_type": ["fan"] * 2, "section": ["00"] * 2, "recording": ["a", "a"]})
    >>> kinds_of_types(clips)
    {'fan': 'recordings'}
    """
    known = pl.col("recording").drop_nulls()
    by_section = labeled.group_by("machine_type", "section").agg(several=known.n_unique() < known.len())
    by_type = by_section.group_by("machine_type").agg(pl.col("several").any()).sort("machine_type")
    return {
        machine_type: "recordings" if several else "clips" for machine_type, several in by_type.iter_rows()
    }


def few_recordings_note(few: Mapping[str, int]) -> str:
    """Return which intervals are rough because there are few recordings, or nothing if none is.

    >>> few_recordings_note({"bearing": 3})[:76]
    'Rough, and probably too narrow, as a domain and label has fewer than 5 recor'
    """
    if not few:
        return ""
    types = ", ".join(f"{machine_type} ({count})" for machine_type, count in few.items())
    return (
        f"Rough, and probably too narrow, as a domain and label has fewer than {FEW_RECORDINGS} recordings: "
        f"the interval of {types}."
    )


def few_types_note(n_types: int) -> str:
    """Return why there is no interval for machines like these, or nothing if there is one.

    >>> few_types_note(2)
    'No interval for machines like these: it takes at least 3 machine types, and there are 2.'
    """
    if n_types >= LEAST_TYPES:
        return ""
    there_are = f"there {'is' if n_types == 1 else 'are'} {n_types}"
    return (
        f"No interval for machines like these: it takes at least {LEAST_TYPES} machine types, "
        f"and {there_are}."
    )


def few_seeds_note(n_seeds: int) -> str:
    """Return why no difference is called sure, or nothing if there are enough seeds.

    >>> few_seeds_note(1)
    'Nothing is bold: with 1 seed the luck of a seed cannot be told from a difference; run at least 3 seeds.'
    """
    if n_seeds >= LEAST_SEEDS:
        return ""
    return (
        f"Nothing is bold: with {n_seeds} seed{'' if n_seeds == 1 else 's'} the luck of a seed cannot be "
        f"told from a difference; run at least {LEAST_SEEDS} seeds."
    )
