"""The nodes of a cluster as a scheduler sees them: which are fit for tasks, and what they hold."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from asdbench.cluster.node_health import NodeHealth
from asdbench.cluster.placement import Placement, WorkerShape


class ClusterNodes:
    """The nodes that are alive, and which of them are taken out.

    Parameters
    ----------
    listed : returns the nodes as Ray lists them, dead ones included
    placement : how tasks are spread
    expected : number of the run's tasks, if it is known

    Attributes
    ----------
    health : which nodes are taken out
    shape : what a worker process gets, and how many of them the nodes hold that are not taken out

    Examples
    --------
    >>> cpus = {"NodeID": "a", "Alive": True, "Resources": {"CPU": 8.0}}
    >>> gpus = {"NodeID": "b", "Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}
    >>> nodes = ClusterNodes(lambda: [cpus, gpus], Placement())
    >>> nodes.shape.capacity, nodes.fit()
    (2, {'b'})
    """

    def __init__(
        self,
        listed: Callable[[], Iterable[Mapping[str, Any]]],
        placement: Placement,
        *,
        expected: int | None = None,
    ) -> None:
        self.health = NodeHealth()
        self._listed = listed
        self._placement = placement
        self._expected = expected
        self.look()

    def __contains__(self, node: str) -> bool:
        return node in self._alive

    def __len__(self) -> int:
        return len(self._alive)

    def look(self) -> None:
        """Look which nodes are alive now."""
        self._alive = {node["NodeID"]: node for node in self._listed() if node["Alive"]}
        self.health.note_gone(self._alive)
        usable = [node for key, node in self._alive.items() if key not in self.health.quarantined]
        self.shape = WorkerShape.from_nodes(usable, self._placement, expected=self._expected)

    def has_gpu(self, node: str) -> bool:
        """Return whether a node has a GPU."""
        return bool(self._alive.get(node, {}).get("Resources", {}).get("GPU", 0))

    def fit(self) -> set[str]:
        """Return the ids of the nodes that hold a worker process and are not taken out."""
        return self.health.fit([key for key in self._alive if self._room([key])])

    def _room(self, nodes: Iterable[str]) -> int:
        """Return how many worker processes some nodes hold: where GPUs are used, only nodes with one do."""
        name, share = ("GPU", self.shape.gpus) if self.shape.gpus else ("CPU", self.shape.cpus)
        return sum(int(self._alive[key]["Resources"].get(name, 0) / share + 1e-9) for key in nodes)

    def excluded(self, avoid: set[str], *, processes: int = 1) -> set[str]:
        """Return the nodes that a task must not run on: those taken out, and its own if the others hold it.

        Where none is left, none is excluded: Ray would wait for ever, and whatever ends a task is noticed.
        """
        fit = self.fit()
        if not fit:
            return set()
        return self.health.quarantined | (avoid if self._room(fit - avoid) >= processes else set())

    def are_out(self) -> bool:
        """Return whether those nodes that are there are taken out; if none is there, others may join."""
        return not self.health.quarantined.isdisjoint(self._alive) and not self.fit()
