"""Recordings that training and test clips of a machine type share, and what is said about them.

A system that was trained on one part of a recording recognizes the other part: it knows the day, the place of
the microphone and the noise around. Its score on such test clips says little about unknown recordings.
Recordings are known from a manifest or from ``provenance.csv``; supplemental clips count as training clips.
"""

from collections.abc import Mapping

import polars as pl

from asdbench.data.sets.copies import ProbableCopy

_N_EXAMPLES = 3


def shared_recordings(clips: pl.DataFrame) -> list[str]:
    """Return a sentence for each machine type whose training and test clips share recordings in a domain.

    A clip whose domain is not known may be of any domain. Spaces around a recording's name do not count.

    >>> clips = pl.DataFrame(
    ...     {"machine_type": "fan", "split": ["train", "test"], "domain": "source", "recording": "monday"}
    ... )
    >>> shared_recordings(clips)
    ['training and test clips of fan share 1 recording (monday)']
    """
    known = clips.select("machine_type", "recording", "domain", is_test=pl.col("split") == "test")
    known = known.with_columns(pl.col("recording").str.strip_chars()).drop_nulls("recording").unique()
    pairs = known.filter(~pl.col("is_test")).join(
        known.filter("is_test"), on=["machine_type", "recording"], suffix="_test"
    )
    same_domain = (pl.col("domain") == pl.col("domain_test")).fill_null(True)
    shared = pairs.filter(same_domain).select("machine_type", "recording").unique().sort(pl.all())
    by_type = shared.group_by("machine_type", maintain_order=True).agg("recording")
    return [_sentence(machine_type, recordings) for machine_type, recordings in by_type.iter_rows()]


def _sentence(machine_type: str, recordings: list[str]) -> str:
    named = recordings[:_N_EXAMPLES]
    if len(recordings) > len(named):
        named.append(f"and {len(recordings) - len(named):,} more")
    count = "1 recording" if len(recordings) == 1 else f"{len(recordings):,} recordings"
    return f"training and test clips of {machine_type} share {count} ({', '.join(named)})"


def kept_copies(machine_type: str, copies: Mapping[str, ProbableCopy]) -> str:
    """Return the sentence on test clips, by path, that are probable copies of training clips.

    >>> kept_copies("fan", {"fan/test/b.wav": ProbableCopy("fan/train/a.wav", 4.2, 0.05)})
    '1 test clip of fan is probably the same recording as a training clip (fan/test/b.wav = fan/train/a.wav)'
    """
    path, copy = next(iter(sorted(copies.items())))
    some = "1 test clip" if len(copies) == 1 else f"{len(copies):,} test clips"
    same = "is probably the same recording" if len(copies) == 1 else "are probably the same recordings"
    other = "as a training clip" if len(copies) == 1 else "as training clips"
    return f"{some} of {machine_type} {same} {other} ({path} = {copy.original})"
