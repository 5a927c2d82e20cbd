"""Which nodes are taken out, and which are not."""

from asdbench.cluster.node_health import NodeHealth


def strikes(health: NodeHealth, *tasks: str, node: str = "n1", can_spare: bool = True) -> list[bool]:
    return [health.strike(node, f"host of {node}", task, "disk full", can_spare=can_spare) for task in tasks]


def test_three_different_tasks_that_fail_in_a_row_take_a_node_out() -> None:
    health = NodeHealth()
    assert strikes(health, "a", "a", "a", "b") == [False] * 4  # one task may be to blame itself
    assert strikes(health, "c") == [True]
    assert strikes(health, "d") == [False]  # it is out
    assert health.fit(["n1", "n2"]) == {"n2"}
    assert health.why_out() == "host of n1: disk full"
    assert health.records["n1"].quarantined_unix_s is not None


def test_a_task_that_ends_well_clears_a_node() -> None:
    health = NodeHealth()
    strikes(health, "a", "b")
    health.note_success("n1", "host of n1")
    assert strikes(health, "c", "d") == [False, False]
    assert health.records["n1"].done == 1


def test_a_node_that_cannot_be_spared_stays() -> None:
    health = NodeHealth()
    assert strikes(health, "a", "b", "c", "d", can_spare=False) == [False] * 4
    assert health.quarantined == set()


def test_a_node_that_is_gone_is_out_since_it_was_missed_first() -> None:
    health = NodeHealth()
    health.note_success("n1", "host of n1")
    health.note_success("n2", "host of n2")
    health.note_gone({"n2"})
    since = health.records["n1"].quarantined_unix_s
    assert since is not None
    assert health.records["n1"].reason == "it has left the cluster"
    assert health.records["n2"].quarantined_unix_s is None
    health.note_gone({"n2"})
    assert health.records["n1"].quarantined_unix_s == since
    assert health.quarantined == set()  # it is not to blame


def test_a_task_that_is_itself_to_blame_is_no_strike() -> None:
    health = NodeHealth()
    strikes(health, "a", "b", "c")
    strikes(health, "a", node="n2")
    assert health.forgive("z") == []
    assert health.forgive("a") == ["host of n1"]
    assert health.fit(["n1", "n2"]) == {"n1", "n2"}
    assert health.records["n1"].quarantined_unix_s is None
    assert strikes(health, "d") == [True]
