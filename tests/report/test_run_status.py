"""The runs under way, as people and programs read them."""

import io
import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from asdbench.engine.run_record import (
    NodeStatus,
    Retry,
    RunningTask,
    RunStatus,
    SearchStatus,
    load_runs,
    name_of,
    save_run,
)
from asdbench.io.storage import Storage
from asdbench.report.run_status import run_view, show_status, status_rows, watch_status

NOW_S = RunStatus.from_command("").began_unix_s
RUN = replace(
    RunStatus.from_command("asdbench tune mine --data tiny"),
    user="ann",
    host="head",
    pid=4711,
    began_unix_s=NOW_S - 600,
    heartbeat_unix_s=NOW_S - 1,
    waiting=3,
    done=2,
    features=4,
    running=(
        RunningTask("valve mine seed 0", "gpu1", "n1", NOW_S - 30),
        RunningTask("fan mine seed 0", "gpu1", "n1", NOW_S - 90, 5, 50),
    ),
    nodes=(
        NodeStatus("n1", "gpu1", 2, 2),
        NodeStatus("n3", "gpu3", 0, 0),
        NodeStatus("n2", "gpu2", 0, 0, NOW_S - 300, "[red] disk full"),
    ),
    retries=(Retry("fan mine seed 0", "gpu2", "disk full", NOW_S - 300),),
    searches=(SearchStatus("mine on tiny", 2, 8, 1, 0.7, None, NOW_S - 60, 0),),
    left_s=1800.0,
    notes=("one clip is [silent]",),
)


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage.from_location(tmp_path / "jobs")


def new_console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(run: RunStatus, now_unix_s: float = NOW_S) -> list[str]:
    console = new_console()
    console.print(run_view(run, now_unix_s=now_unix_s))
    return [" ".join(line.split()) for line in printed(console).splitlines()]


def test_a_run_shows_tasks_nodes_searches_and_the_time_left() -> None:
    shown = lines(RUN)
    assert shown[0] == "asdbench tune mine --data tiny"
    assert shown[1].startswith(f"run {RUN.run_id[:8]} of ann on head, process 4711: began ")
    assert shown[1].endswith("(10 min ago), about 30 min left")
    assert shown[2] == "tasks: 3 waiting, 2 running, 2 done, 0 failed; features to build: 4"
    assert "mine on tiny 2/8 1 70.00 –" in shown
    assert shown.index("fan mine seed 0 gpu1 90 s 5/50") < shown.index("valve mine seed 0 gpu1 30 s –")
    assert "note: one clip is [silent]" in shown
    (retry,) = [line for line in shown if line.startswith("retried: fan mine seed 0, failed on gpu2 at ")]
    assert retry.endswith("(5 min ago): disk full")


def test_a_retry_of_a_task_that_died_before_it_began_names_no_host() -> None:
    shown = lines(replace(RUN, retries=(Retry("fan mine seed 0", "", "its node died", NOW_S - 300),)))
    assert [line for line in shown if line.startswith("retried: fan mine seed 0, failed at ")]


@pytest.mark.parametrize("steps", [None, 0])
def test_a_task_has_no_steps_before_its_first_report(steps: int | None) -> None:
    task = RunningTask("fan mine seed 0", "gpu1", "n1", NOW_S - 90, steps, steps)
    assert "fan mine seed 0 gpu1 90 s –" in lines(replace(RUN, running=(task,)))


def test_a_node_that_is_out_comes_first_with_time_and_reason() -> None:
    nodes = [line for line in lines(RUN) if line.startswith("gpu")]
    assert nodes[0].startswith("gpu2 0 0 out since ")
    assert nodes[0].endswith("(5 min ago): [red] disk full")
    assert nodes[1:] == ["gpu1 2 2 in use", "gpu3 0 0 idle"]


def test_a_time_of_another_day_has_its_date() -> None:
    began = replace(RUN, began_unix_s=1_700_000_000.0)
    assert "began 2023-11-1" in lines(began)[1]


@pytest.mark.parametrize(
    ("left_s", "text"), [(None, "time left not known yet"), (0.0, "no tasks left"), (90.0, "about 90 s left")]
)
def test_the_time_left_is_in_words(left_s: float | None, text: str) -> None:
    assert lines(replace(RUN, left_s=left_s, features=0))[1].endswith(f", {text}")


def test_a_run_that_builds_features_has_tasks_left() -> None:
    assert lines(replace(RUN, left_s=0.0, features=2))[1].endswith(", time left not known yet")


def test_of_a_silent_run_nothing_is_said_to_run() -> None:
    shown = lines(RUN, NOW_S + 120)
    assert shown[1].endswith(
        "not heard from for 2 min (its process may have been killed; the same command resumes it)"
    )
    assert not [line for line in shown if "5/50" in line or "left" in line]
    assert shown[2].startswith("tasks: 3 waiting, 2 running")
    assert [line.partition(" ")[0] for line in shown if line.startswith("gpu")] == ["gpu2"]


def test_long_lists_are_cut_with_their_number() -> None:
    tasks = tuple(RunningTask(f"task {n}", "gpu1", "n1", NOW_S - n) for n in range(1000))
    shown = lines(replace(RUN, running=tasks))
    assert "and 980 more" in shown
    assert len([line for line in shown if line.startswith("task ")]) == 20
    assert any(line.startswith("task 999 ") for line in shown)


def test_runs_are_shown_with_files_that_cannot_be_read(root: Storage) -> None:
    console = new_console()
    show_status(root, console=console)
    assert printed(console) == f"no run is under way in {root}\n"
    save_run(root, RUN)
    save_run(root, replace(RUN, run_id="b", command="asdbench run other --data tiny"))
    root.write(name_of("c"), b"{")
    console = new_console()
    show_status(root, console=console)
    for part in ("asdbench tune mine", "asdbench run other", "runs/c.json cannot be read"):
        assert part in printed(console)
    assert "no run" not in printed(console)


def test_json_has_everything(root: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(root, RUN)
    root.write(name_of("c"), b"{")
    console = new_console()
    show_status(root, console=console, format="json")
    (row,) = json.loads(capsys.readouterr().out)
    assert row["nodes"][2]["reason"] == "[red] disk full"
    assert "unheard_s" in row
    assert "runs/c.json cannot be read" in printed(console)


def test_rows_say_for_how_long_a_run_was_silent() -> None:
    ages = [status_rows([RUN], now_unix_s=NOW_S + age_s)[0]["unheard_s"] for age_s in (0, 99)]
    assert ages == [None, pytest.approx(100)]


def test_watching_shows_changes_until_an_interrupt(root: Storage) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    seen = []

    def wait(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) == 1:
            save_run(root, RUN)
        else:
            raise KeyboardInterrupt

    watch_status(root, console=console, wait=wait)
    before, _, after = printed(console).partition("no run is under way")
    assert "asdbench tune mine" in after
    assert "asdbench tune mine" not in before
    assert load_runs(root)[0] == [RUN]  # it reads only
