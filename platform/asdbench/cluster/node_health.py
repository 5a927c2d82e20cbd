"""Which nodes of a cluster are fit for tasks: one where task after task fails is taken out and named."""

import time
from collections.abc import Collection, Container
from dataclasses import dataclass, field

_STRIKES = 3  # different tasks that fail on a node, none succeeding between them


@dataclass
class NodeRecord:
    """What is known of a node.

    Attributes
    ----------
    node, host : id and host name
    done : tasks that ended well on it
    strikes : keys of the tasks that failed by its fault since one ended well
    quarantined_unix_s : since when it gets no tasks
    reason : of the last failure, or that the node is gone
    """

    node: str
    host: str
    done: int = 0
    strikes: set[str] = field(default_factory=set)
    quarantined_unix_s: float | None = None
    reason: str = ""


class NodeHealth:
    """The nodes on which tasks have run.

    Examples
    --------
    >>> health = NodeHealth()
    >>> [health.strike("n1", "host1", task, "the disk is full", can_spare=True) for task in "abc"]
    [False, False, True]
    >>> health.quarantined
    {'n1'}
    """

    def __init__(self) -> None:
        self.records: dict[str, NodeRecord] = {}
        self.quarantined: set[str] = set()

    def note_seen(self, node: str, host: str) -> None:
        """Note that a task began on a node."""
        self._record(node, host)

    def note_success(self, node: str, host: str) -> None:
        """Note that a task ended well on a node."""
        record = self._record(node, host)
        record.done += 1
        record.strikes.clear()

    def strike(self, node: str, host: str, task: str, reason: str, *, can_spare: bool) -> bool:
        """Note that a task failed by the fault of a node; return whether the node is now taken out.

        Parameters
        ----------
        node, host : id and host name of the node
        task : key of the task
        reason : why it failed, in one line
        can_spare : whether the node may be taken out
        """
        record = self._record(node, host)
        record.strikes.add(task)
        record.reason = reason
        if len(record.strikes) < _STRIKES or not can_spare or node in self.quarantined:
            return False
        record.quarantined_unix_s = time.time()
        self.quarantined.add(node)
        return True

    def forgive(self, task: str) -> list[str]:
        """Take back the strikes of a task that was itself to blame; return the hosts that are fit again."""
        back = []
        for record in self.records.values():
            if task not in record.strikes:
                continue
            record.strikes.discard(task)
            if record.node in self.quarantined and len(record.strikes) < _STRIKES:
                self.quarantined.discard(record.node)
                record.quarantined_unix_s = None
                back.append(record.host)
        return back

    def note_gone(self, alive: Container[str]) -> None:
        """Note which nodes are no longer among those that are ``alive``."""
        for record in self.records.values():
            if record.node not in alive and record.quarantined_unix_s is None:
                record.quarantined_unix_s, record.reason = time.time(), "it has left the cluster"

    def fit(self, nodes: Collection[str]) -> set[str]:
        """Return those of ``nodes`` that are not taken out."""
        return set(nodes) - self.quarantined

    def why_out(self) -> str:
        """Return the hosts that are taken out, each with the reason."""
        return "; ".join(
            f"{self.records[node].host}: {self.records[node].reason}" for node in self.quarantined
        )

    def _record(self, node: str, host: str) -> NodeRecord:
        return self.records.setdefault(node, NodeRecord(node, host))
