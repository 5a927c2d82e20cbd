"""Which published results belong next to those on a data set, and where ours stand among them."""

import shlex
from collections.abc import Sequence

from asdbench.data.sets.catalog import DataSet
from asdbench.report.formatting import format_amount, format_percent
from asdbench.report.published import Reference, challenges_of, references, references_for
from asdbench.report.rendering import Row


def published_results(
    data: DataSet, machine_types: Sequence[str], subset: str
) -> tuple[list[Reference], list[str]]:
    """Return the published results on a subset of the challenge that a data set is of.

    The second value are notes: why there are none, which are left out, and which challenge it is where the
    name of the data set does not say so.
    """
    if not machine_types:
        return [], [_no_labels(data, subset)]
    challenges = challenges_of(data)
    if len(challenges) > 1:
        return [], [_several_challenges(data, challenges)]
    published = references_for(challenges[0], machine_types, subset=subset) if challenges else []
    if not published:
        return [], [_none_published(data, subset)]
    notes = [_taken_for(data, challenges[0])] if challenges[0] != data.name else []
    n_only_printed = sum(not (result.values or result.means(machine_types)) for result in published)
    if n_only_printed:
        notes.append(_of_other_types(n_only_printed, challenges[0], subset))
    return published, notes


def _several_challenges(data: DataSet, challenges: Sequence[str]) -> str:
    command = shlex.join(["asdbench", "data", "add", challenges[0], str(data.root)])
    return (
        f"the recordings of {data.name} may be those of {' or '.join(challenges)}; to see published results, "
        f"register them under the name of their challenge, such as {command!r}"
    )


def _no_labels(data: DataSet, subset: str) -> str:
    return (
        f"no test clip of {data.name}{data.suffix(subset)} has a known label, so nothing compares with "
        f"published results; 'asdbench data labels {data.name} --from FOLDER' adds labels"
    )


def _none_published(data: DataSet, subset: str) -> str:
    available = ", ".join(sorted({f"{result.data} ({result.subset})" for result in references()}))
    return f"there are no published results on {data.name}{data.suffix(subset)}; there are for {available}"


def _taken_for(data: DataSet, challenge: str) -> str:
    return (
        f"{data.name} has the layout, the sections and the machine types of {challenge}, so published "
        f"results on {challenge} are shown; they compare only if the recordings are the same"
    )


def _of_other_types(count: int, challenge: str, subset: str) -> str:
    return (
        f"{format_amount(count, 'published result')} on {challenge} ({subset}) cannot be compared: only a "
        f"score over all machine types of the challenge is printed"
    )


def standing_notes(rows: Sequence[Row]) -> list[str]:
    """Return where the best of our rows stands among those of others; nothing if none of these has a rank.

    ``rows`` are those of :func:`asdbench.report.leaderboard.with_references`, for all machine types.

    >>> rows = [
    ...     {"system": "theirs", "rank": 1, "tier": "published", "official_score": 0.7},
    ...     {"system": "mine", "rank": 2, "tier": "ours", "official_score": 0.6},
    ... ]
    >>> standing_notes(rows)
    ['the best of ours, mine, has rank 2 of 2, behind theirs (70.00)']
    """
    ranked = [row for row in rows if row["rank"] is not None]
    own = next((row for row in ranked if row["tier"] == "ours"), None)
    others = [row for row in ranked if row["tier"] != "ours"]
    if own is None or not others:
        return []
    above = [row for row in others if row["rank"] < own["rank"]]
    level = [row for row in others if row["rank"] == own["rank"]]
    below = [row for row in others if row["rank"] > own["rank"]]
    words = [f"behind {_named(above[-1])}"] if above else []
    words += [f"level with {_named(level[0])}"] if level else []
    words += [f"ahead of {_named(below[0])}"] if below else []
    return [
        f"the best of ours, {own['system']}, has rank {own['rank']} of {len(ranked)}, {' and '.join(words)}"
    ]


def _named(row: Row) -> str:
    return f"{row['system']} ({format_percent(row['official_score'])})"
