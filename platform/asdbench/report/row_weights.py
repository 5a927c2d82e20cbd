"""The columns of a leaderboard on pretrained weights: which ones a row uses, licenses, training data.

They are of the system that is installed now. A leaderboard without a row that uses weights lacks the columns.
Results may name weights that this version does not register: their license and training data are "unknown".
"""

from collections.abc import Iterable, Sequence

from asdbench.registry import Configured
from asdbench.report.rendering import Row
from asdbench.weights import records

COLUMNS = ("weights", "weights_license", "weights_training_data")
_UNKNOWN = "unknown"


def weights_columns(configured: Configured | None) -> Row:
    """Return the columns of a row: ids, licenses and training data of the weights, each once.

    Parameters
    ----------
    configured : the row's system with its settings; ``None`` if it is gone
    """
    ids = list(_ids(configured)) if configured is not None else []
    known = [records.RECORDS.get(one) for one in ids]
    columns = (
        ids,
        [record.license.name if record else _UNKNOWN for record in known],
        [record.training_data if record else _UNKNOWN for record in known],
    )
    return {name: list(dict.fromkeys(values)) for name, values in zip(COLUMNS, columns, strict=True)}


def without_unused_columns(rows: Sequence[Row]) -> list[Row]:
    """Return rows without the columns on weights if no row uses any."""
    if any(row["weights"] for row in rows):
        return list(rows)
    return [{name: value for name, value in row.items() if name not in COLUMNS} for row in rows]


def _ids(configured: Configured) -> Iterable[str]:
    from asdbench.engine.pretrained import weights_needed  # imports torch

    parts = configured.members or (configured,)
    return dict.fromkeys(one for part in parts for one in weights_needed(part))
