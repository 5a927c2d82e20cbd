"""Costs at scale: what every queued task, stored task, result and clip costs, and how that grows.

Each part runs in a process of its own for three sizes, a factor of ten apart, and prints seconds of CPU,
which other work on the machine disturbs little, and the peak memory beyond that of the imports. The growth
exponent is the slope of log seconds over log size: 1 means that each one costs the same, however many
there are.

- ``queue``: tasks through the scheduler of a run (`asdbench.cluster.scheduler.TrainingScheduler`), with nodes
  that finish a task at once: what the scheduler's process does itself, without Ray's own cost
- ``requests``: requests for tasks, made from jobs as a driver makes them, all kept at once
- ``stored``: whether tasks are done, from one listing of a job store
- ``index``: the first leaderboard of a store, which makes its index and checks every result
- ``board``: every later one, without its output; ``table`` and ``csv`` are the output
- ``fingerprint``, ``labels``: of a data set of so many clips

    python benchmarks/bench_scale.py [queue requests stored results clips] [--largest 100000]
"""

import argparse
import asyncio
import contextlib
import io
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.data.sets.clips import CLIP_SCHEMA
from asdbench.engine import result_record
from asdbench.engine.evaluation import JudgedTypes, evaluate, labeled_clips
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.engine.result_record import ResultRecord
from asdbench.engine.stored_results import current_results
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job

TYPES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
SEEDS = 5
SMALL = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
Timed = Callable[[str, Callable[[], object]], object]


class InstantNodes:
    """Nodes of a cluster that finish every task at once."""

    def __init__(self, nodes: int, cpus: int) -> None:
        self._nodes = [
            {
                "NodeID": f"n{number}",
                "Alive": True,
                "NodeName": "",
                "Resources": {"CPU": cpus, "memory": 1e12},
            }
            for number in range(nodes)
        ]

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes as Ray describes them."""
        return self._nodes

    async def train(self, entry: Any, *_: object) -> Any:
        """Finish a task at once."""
        from asdbench.cluster.messages import Outcome

        await asyncio.sleep(0)
        return Outcome("ok", "n0", "host")


def queue(size: int, timed: Timed) -> None:
    """Run so many tasks of trials through the scheduler."""
    from asdbench.cluster.messages import TaskRequest
    from asdbench.cluster.placement import Placement
    from asdbench.cluster.scheduler import TrainingScheduler

    async def run() -> None:
        scheduler = TrainingScheduler(InstantNodes(8, 16), Placement())  # type: ignore[arg-type]
        requests = [
            TaskRequest(f"k{n}", f"t{n}", "a label", ("a-system",), (n % 7, n // 35, n), b"content")
            for n in range(size)
        ]
        outcomes = await scheduler.run("run", requests)
        assert all(outcome.kind == "ok" for outcome in outcomes)

    timed("queue", lambda: asyncio.run(run()))


def requests(size: int, timed: Timed) -> None:
    """Make so many requests and keep them, with their tasks, as a driver does."""
    from asdbench.driver.task_requests import RequestBuilder

    with tempfile.TemporaryDirectory() as folder:
        data, _ = small_data_set(Workspace.from_home(folder))
        configured = ResolvedJob.from_job(Job("baseline-mse", SMALL, data.name, "fan", 0), data).configured
        builder = RequestBuilder(publishes=False)

        def build() -> list[Any]:
            tasks = (
                TrainingTask((ResolvedJob(configured, data, TYPES[n % 7], 1 + n // 7),)) for n in range(size)
            )
            return [(task, builder.request(task, (0.0, n))) for n, task in enumerate(tasks)]

        made: Any = timed("requests", build)
        assert len({request.key for _, request in made}) == size


def stored(size: int, timed: Timed) -> None:
    """Ask for so many tasks whether they are done; half of them are."""
    with tempfile.TemporaryDirectory() as folder:
        data, _ = small_data_set(Workspace.from_home(folder))
        configured = ResolvedJob.from_job(Job("baseline-mse", SMALL, data.name, "fan", 0), data).configured
        tasks = [
            TrainingTask((ResolvedJob(configured, data, TYPES[n % 7], 1 + n // 7),)) for n in range(size)
        ]
        root = Path(folder) / "jobs"
        for task in tasks[::2]:
            for kind, key, files in (
                ("trainings", task.first.training_key, ("training.json", "model.pt")),
                ("scores", task.first.scoring_key, ("scoring.json", "components.parquet", "backend.pt")),
            ):
                (root / kind / key).mkdir(parents=True)
                for file in files:
                    (root / kind / key / file).touch()
        snapshot = JobStore(Storage.from_location(root)).snapshot()
        done = timed("stored", lambda: sum(map(snapshot.is_done, tasks)))
        assert done == -(-size // 2)


def small_data_set(workspace: Workspace) -> tuple[DataSet, ResultRecord]:
    """Return a data set of seven machine types and a result on it."""
    catalog.add(workspace, "small", write_tiny(workspace.home / "recordings", machine_types=TYPES))
    data, store = catalog.load(workspace, "small"), JobStore.from_workspace(workspace)
    job = Job("baseline-mse", SMALL, "small", "fan", 0)
    run_job(job, workspace, store)
    return data, evaluate(ResolvedJob.from_workspace(job, workspace), store).record


def synthetic_results(data: DataSet, like: ResultRecord, count: int) -> Iterator[tuple[str, ResultRecord]]:
    """Yield keys and records of so many results, all of them current."""
    judged, generator = JudgedTypes(labeled_clips(data)), np.random.default_rng(0)
    for number in range(count):
        settings = {**SMALL, "epochs": 2 + number // (len(TYPES) * SEEDS)}
        machine_type, seed = TYPES[number % len(TYPES)], number // len(TYPES) % SEEDS
        resolved = ResolvedJob.from_job(Job(like.system, settings, data.name, machine_type, seed), data)
        sections = {
            name: msgspec.structs.replace(
                section, official={metric: float(generator.uniform(0.4, 1)) for metric in section.official}
            )
            for name, section in like.sections.items()
        }
        record = msgspec.structs.replace(
            like,
            settings=resolved.configured.values(),
            changed_settings=resolved.configured.changed(),
            machine_type=machine_type,
            seed=seed,
            keys=result_record.ResultKeys((resolved.training_key,), resolved.scoring_key),
            fingerprint=resolved.fingerprint(),
            sections=sections,
        )
        yield judged.result_key(resolved, subset="dev"), record


def results(size: int, timed: Timed) -> None:
    """Show the leaderboard of a store with so many results."""
    from rich.console import Console

    from asdbench.report import leaderboard, leaderboard_table

    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace.from_home(home)
        data, like = small_data_set(workspace)
        folder = workspace.home / "jobs" / "results"
        for path in folder.iterdir():
            path.unlink()
        for key, record in synthetic_results(data, like, size):
            (folder / f"{key}.json").write_bytes(result_record.to_json(record))
        store = JobStore.from_workspace(workspace)

        def board() -> list[dict[str, Any]]:
            return leaderboard.rows(current_results(data, store).records, machine_types=TYPES)

        timed("index", lambda: current_results(data, store))
        rows: Any = timed("board", board)
        assert sum(len(row["seeds"]) for row in rows) == size // len(TYPES)
        console = Console(file=io.StringIO(), width=200)
        for name in ("table", "csv"):
            timed(
                name,
                lambda name=name: leaderboard_table.render(rows, format=name, title="", console=console),
            )


def clips(size: int, timed: Timed) -> None:
    """Ask a data set of so many clips for its fingerprint and its labels."""
    number = pl.int_range(size, eager=True)
    table = pl.DataFrame(
        {
            "clip_id": number,
            "path": "train/clip_" + number.cast(pl.String) + ".wav",
            "machine_type": [TYPES[n % 7] for n in range(size)],
            "section": ["00"] * size,
            "split": ["train" if n % 2 else "test" for n in range(size)],
            "domain": ["source" if n % 4 else "target" for n in range(size)],
            "attributes": [[{"name": "spd", "value": "1"}]] * size,
            "recording": number.cast(pl.String),
            "subset": ["dev"] * size,
            "samples": [160_000] * size,
            "sample_rate_hz": [16_000] * size,
            "channels": [1] * size,
            "duration_s": [10.0] * size,
            "fault": [None] * size,
            "content_hash": number.cast(pl.String),
            "size_bytes": number,
            "mtime_ns": number,
            "spectrum": [None] * size,
        },
        schema=CLIP_SCHEMA,
    )
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace.from_home(home)
        catalog.add(workspace, "large", write_tiny(Path(home) / "recordings", machine_types=("fan",)))
        small = catalog.load(workspace, "large")
        data = DataSet(workspace, "large", small.root, table, "mean", datetime.now(UTC), None, (), ())
        timed("fingerprint", lambda: [data.fingerprint(machine_type) for machine_type in TYPES])
        truth = table.filter(pl.col("split") == "test").select("clip_id", anomaly=pl.col("clip_id") % 4 < 2)
        catalog.truth, asked = (lambda data: truth), catalog.truth
        try:
            timed("labels", lambda: JudgedTypes(labeled_clips(data)).digest)
        finally:
            catalog.truth = asked


PARTS: Mapping[str, tuple[Callable[[int, Timed], None], tuple[str, ...], int]] = {
    "queue": (queue, ("queue",), 1),
    "requests": (requests, ("requests",), 1),
    "stored": (stored, ("stored",), 1),
    "results": (results, ("index", "board", "table", "csv"), 1),
    "clips": (clips, ("fingerprint", "labels"), 10),
}


def measure(part: str, size: int, connection: Any) -> None:
    """Run a part at one size and send seconds and bytes by name."""
    found: dict[str, tuple[float, float]] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        result = work()
        seconds = time.process_time() - start
        found[name] = seconds, 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        return result

    with contextlib.redirect_stdout(io.StringIO()):
        PARTS[part][0](size, timed)
    peak = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection.send((found, peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--largest", type=int, default=100_000, help="size; ten times as many clips")
    options = parser.parse_args()
    print(f"{'part':12} {'size':>9} {'CPU s':>8} {'µs each':>8} {'more MB':>8} {'peak MB':>8}", flush=True)
    for part in options.parts or PARTS:
        _, names, factor = PARTS[part]
        seconds: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
        for size in (options.largest * factor // divisor for divisor in (100, 10, 1)):
            receiving, sending = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(target=measure, args=(part, size, sending))
            process.start()
            sending.close()
            found, peak = receiving.recv()
            process.join()
            for name in names:
                cpu_s, more = found[name]
                seconds[name].append((size, cpu_s))
                print(
                    f"{name:12} {size:9,} {cpu_s:8.2f} {1e6 * cpu_s / size:8.1f} {more / 1e6:8.0f} "
                    f"{peak / 1e6:8.0f}",
                    flush=True,
                )
        for name, measured in seconds.items():
            print(f"{name:12} grows with exponent {exponent(measured):.2f}", flush=True)


def exponent(measured: list[tuple[int, float]]) -> float:
    """Return the slope of log seconds over log size, by least squares."""
    sizes, seconds = zip(*measured, strict=True)
    slope: float = np.polyfit(
        [math.log(size) for size in sizes], [math.log(max(s, 1e-4)) for s in seconds], 1
    )[0]
    return slope


if __name__ == "__main__":
    main()
