"""What stands above a leaderboard on a page of its own, in Markdown: how it counts, the data, the table."""

from collections.abc import Sequence

import polars as pl

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import labeled_clips
from asdbench.report.leaderboard_table import render
from asdbench.report.rendering import Row

_MOST_ROWS = 25


def leaderboard_note(rows: Sequence[Row], data: DataSet, *, subset: str) -> str:
    """Return the description of a leaderboard; ``rows`` are those of `asdbench.report.leaderboard.rows`."""
    shown = rows[:_MOST_ROWS]
    title = f"Leaderboard of {data.name}{data.suffix(subset)}"
    table = render(shown, format="markdown", title=title, rule=data.rule) or ""
    more = f"The best {len(shown)} of {len(rows):,} rows. " if len(shown) < len(rows) else ""
    how = (
        f"{more}`asdbench leaderboard --data {data.name}` prints the same table. A run below is a row of it: "
        "the mean over the seeds, which are its nested runs."
    )
    tuned = (
        "**dev-tuned** (`asdbench.tuned`): a search chose the settings with the labels of development clips. "
        "Its score on these clips is optimistic and does not compare with that of an untuned system. It has "
        "seeds that the search did not see, unless the row says otherwise; `score_in_search` is the score "
        "that made the search choose the settings."
    )
    return "\n\n".join([table.rstrip(), how, tuned, _data_sentence(data, subset)]) + "\n"


def _data_sentence(data: DataSet, subset: str) -> str:
    clips = data.clips.filter(pl.col("subset") == subset)
    n_train = clips.filter(pl.col("split") == "train").height
    n_test = clips.filter(pl.col("split") == "test").height
    labeled = labeled_clips(data, subset=subset)
    n_anomalies = int(labeled["anomaly"].sum())
    types = sorted(labeled["machine_type"].unique())
    return (
        f"Data: {n_train:,} normal training clips and {n_test:,} test clips, {labeled.height:,} of them "
        f"labeled ({n_anomalies:,} anomalies), of {', '.join(types) or 'no machine type'}; "
        f"{data.clips['duration_s'].sum() / 3600:.1f} h of sound; fingerprint `{data.fingerprint()[:8]}`."
        + "".join(f" **Beware:** {sentence}." for sentence in data.shared_recordings)
    )
