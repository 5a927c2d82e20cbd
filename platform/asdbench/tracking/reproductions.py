"""The MLflow run of a reproduced table, in the experiment ``asdbench/<data set>/reproductions``.

Conventions: metrics are averages in percent with two decimals, ``<rule>/<system>/ours`` and, next to it,
``ours_std``, ``printed`` and ``recomputed``. The table itself is the description of the run, and its
artifacts. The same request updates its run in place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asdbench
from asdbench.tracking.records import (
    AS_OF,
    KEY,
    KIND,
    RESULTS,
    STORE,
    RowEntry,
    RunRecord,
    at_step_0,
    hash_of,
    texts,
)
from asdbench.tracking.views import NOTE


@dataclass(frozen=True, eq=False)
class ReproducedTable:
    """A reproduced table, as it is recorded.

    Attributes
    ----------
    store : id of the job store
    data : name of the data set
    title : name of the published table
    params : what it was made with, by name
    metrics : averages in percent, by name
    text : the table as Markdown
    files : more artifacts by path
    began_ns, ended_ns : when its runs began, and when the results were read, in nanoseconds since 1970
    """

    store: str
    data: str
    title: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    text: str
    files: Mapping[str, bytes]
    began_ns: int
    ended_ns: int

    def entry(self, source: Mapping[str, str]) -> RowEntry:
        """Return the entry to deliver; ``source`` are tags that identify the code."""
        params = texts({**self.params, "data": self.data})
        tags = {
            KEY: hash_of([self.store, self.data, self.title, *_pairs(params)]),
            KIND: "reproduction",
            RESULTS: hash_of([self.text]),
            AS_OF: str(self.ended_ns),
            STORE: self.store,
            NOTE: self.text,
            "asdbench.version": asdbench.__version__,
            **source,
        }
        record = RunRecord(
            name=f"{self.title} on {self.data}",
            tags=tags,
            params=params,
            metrics=at_step_0(self.metrics),
            began_ms=self.began_ns // 1_000_000,
            ended_ms=self.ended_ns // 1_000_000,
            files={"table.md": self.text.encode(), **self.files},
        )
        return RowEntry(f"{self.data}/reproductions", record, [])


def _pairs(params: Mapping[str, str]) -> Sequence[str]:
    return [f"{name}={value}" for name, value in sorted(params.items())]
