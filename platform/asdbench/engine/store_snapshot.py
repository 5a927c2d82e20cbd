"""What a job store holds, asked for many jobs at once.

Idea: a run with 10^5 tasks asks for each whether it is done. Two listings of folders each are two requests
each over a network; a listing of the whole store is one for a thousand files.
"""

from collections.abc import Iterable
from itertools import groupby

from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.io.storage import Storage

_FILES = {
    "trainings": frozenset({"training.json", "model.pt"}),
    "scores": frozenset({"scoring.json", "components.parquet", "backend.pt"}),
}
_FEW = 20  # folders that are listed each; then everything is


class StoreSnapshot:
    """Answers which jobs are finished, as the store was when it was first asked.

    The first answers list the folders of their jobs; from the twenty-first folder on, one listing of the
    whole store answers all that comes. What is stored later is not seen: take another snapshot.

    Parameters
    ----------
    root : the storage of a job store
    """

    def __init__(self, root: Storage) -> None:
        self._root = root
        self._is_complete: dict[tuple[str, str], bool] = {}
        self._complete: dict[str, frozenset[str]] = {}  # by kind, once everything is listed

    def is_trained(self, resolved: ResolvedJob) -> bool:
        """Whether the job's training is finished."""
        return self._has("trainings", resolved.training_key)

    def is_scored(self, resolved: ResolvedJob) -> bool:
        """Whether the job's component scores are there, and the training that they are of."""
        if resolved.members:
            return all(map(self.is_scored, resolved.members))
        return self.is_trained(resolved) and self._has("scores", resolved.scoring_key)

    def is_done(self, task: TrainingTask) -> bool:
        """Whether all jobs of ``task`` are trained and scored."""
        return all(map(self.is_scored, task.jobs))

    def _has(self, kind: str, key: str) -> bool:
        if (kind, key) not in self._is_complete:
            if len(self._is_complete) >= _FEW:
                return key in self._all(kind)
            self._is_complete[kind, key] = key in _complete(kind, self._root.names(f"{kind}/{key}"))
        return self._is_complete[kind, key]

    def _all(self, kind: str) -> frozenset[str]:
        if kind not in self._complete:
            self._complete[kind] = frozenset(_complete(kind, self._root.names(kind)))
        return self._complete[kind]


def _complete(kind: str, names: Iterable[str]) -> Iterable[str]:
    """Yield the keys whose folders hold all files of their kind; ``names`` are sorted."""
    start = len(kind) + 1
    files = (name[start:].partition("/")[::2] for name in names)
    for key, group in groupby(files, key=lambda item: item[0]):
        if {file for _, file in group} >= _FILES[kind]:
            yield key
