"""Attacks of a system on what tells labels, each without and with the guard.

The attacker of each test finds the labels of the test clips, writes them into its scores, and has an AUC of 1
where nothing stops it. Where a file is refused, it scores the level of a clip.
"""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.data.sets.truth import TRUTH_SCHEMA
from asdbench.engine import guard
from asdbench.engine.evaluation import evaluate
from asdbench.engine.guard import isolation, label_places, run_isolated
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.landlock import has_landlock
from asdbench.engine.local import run_local
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.testing import write_tiny
from tests.plugins import CONFIG, UNTRAINED

PLUGIN = (
    CONFIG
    + """

import io, os, subprocess, sys
from pathlib import Path

import polars

HOME = Path({home!r})


def catalog():
    return sys.modules["asdbench.data.sets.catalog"]


def data():
    return next(data for _, data in catalog()._loaded.values() if data.workspace.home == HOME)


def path(name):
    return next(HOME.glob(f"{{name}}/*/*"), HOME / name)


def decoded(content):
    return polars.read_parquet(io.BytesIO(bytes(255 - byte for byte in content)))


def of_table(truth):
    return dict(truth.select("clip_id", "anomaly").iter_rows())


def labels():
    {attack}


class Mine(System[Config]):
    def __init__(self, config, facts):
        super().__init__(config, facts)
        self.register_buffer("anomaly", torch.zeros(0))

"""
    + UNTRAINED
    + """
    def fit_backend(self, batches):
        try:
            found = labels()
            self.anomaly = torch.tensor([found[i] for i in sorted(found)]).float()
        except Exception as error:
            (HOME / "refused").write_text(repr(error))

    def components(self, batch):
        level = batch.mean_over_clips(batch.windows.mean(dim=(1, 2)))
        if len(self.anomaly) != batch.n_clips:  # the test clips are one batch, ordered by their ids
            return {{"level": level * 0 + 0.5}}
        return {{"level": self.anomaly}}
    transductive = True
"""
)
NAMES = "return {{i: 'anomaly' in name for i, name in {}.select('clip_id', 'path').iter_rows()}}"
ATTACKS = {
    "the catalog": "return of_table(catalog().truth(data()))",
    "the module of labels": "return of_table(sys.modules['asdbench.data.sets.truth']"
    ".load_truth(path('truth')))",
    "its bytes": "return of_table(decoded(path('truth').read_bytes()))",
    "pyarrow": "import pyarrow; return of_table(decoded(pyarrow.memory_map(str(path('truth'))).read()))",
    "a process": "command = ['cat', str(path('truth'))]; "
    "return of_table(decoded(subprocess.run(command, capture_output=True, check=True).stdout))",
    "an open folder": "folder = os.open(HOME, os.O_RDONLY); "
    "file = os.open(path('truth').relative_to(HOME), os.O_RDONLY, dir_fd=folder); "
    "return of_table(decoded(open(file, 'rb').read()))",
    "an open folder from below": "folder = os.open(HOME / 'store', os.O_RDONLY); "
    "inner = Path('..') / path('truth').relative_to(HOME); "
    "return of_table(decoded(open(os.open(inner, os.O_RDONLY, dir_fd=folder), 'rb').read()))",
    "a moved file": "(HOME / 'truth').rename(HOME / 'store/here'); return of_table(decoded(b''))",
    "names of loaded clips": NAMES.format("data().clips.filter(split='test')"),
    "names of stored clips": "test = set(data().clips.filter(split='test')['clip_id']); "
    "clips = decoded(next(HOME.glob('data/tiny/paths*')).read_bytes()); "
    + NAMES.format("clips.filter(polars.col('clip_id').is_in(test))"),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    base = tmp_path_factory.mktemp("guard")
    workspace = Workspace.from_home(base / "home")
    catalog.add(workspace, "tiny", write_tiny(base / "clips", machine_types=("fan",)))
    (workspace.home / "store").mkdir()
    return workspace


HAS_LANDLOCK = has_landlock()
Attack = Callable[[str], ResolvedJob]


@pytest.fixture
def attack(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attack]:
    """A function that returns the job of an attacker."""
    monkeypatch.syspath_prepend(str(tmp_path))
    source = SystemSource("their_attack", None, "systems/attack.py")
    monkeypatch.setattr(registry, "_sources", lambda: {"attack": [source]})

    def function(labels: str) -> ResolvedJob:
        (tmp_path / "their_attack.py").write_text(PLUGIN.format(home=str(workspace.home), attack=labels))
        importlib.invalidate_caches()
        return ResolvedJob.from_workspace(Job("attack", {}, "tiny", "fan", 0), workspace)

    yield function
    (workspace.home / "refused").unlink(missing_ok=True)
    sys.modules.pop("their_attack", None)
    registry.get.cache_clear()
    registry.source_hash.cache_clear()


def score(resolved: ResolvedJob, store: JobStore) -> float:
    """Return the official AUC of the source domain."""
    (section,) = evaluate(resolved, store).record.official_metrics
    return section["auc_source"]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_labels_finds_none(
    workspace: Workspace, attack: Attack, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved, tasks = attack(ATTACKS[name]), by_training
    unguarded = JobStore(Storage.from_location(tmp_path / "unguarded"))
    if name != "a moved file":
        assert run_task(*tasks([resolved]), Runtime(), unguarded) == []
        assert unguarded.scoring_record(resolved.scoring_key).isolation == "none"
        assert score(resolved, unguarded) == 1.0
    for way in ("kernel", "python") if HAS_LANDLOCK else ("python",):
        if way == "python":
            if name == "pyarrow":
                continue  # it opens files without Python
            monkeypatch.setattr(guard, "deny_reading", lambda places: False)
        store = JobStore(Storage.from_location(tmp_path / way))
        events: list[object] = []
        assert run_local(tasks([resolved]), store, checkpoint_epochs=1, on_event=events.append) == []
        assert store.scoring_record(resolved.scoring_key).isolation == way
        assert score(resolved, store) == 0.5
        assert (workspace.home / "refused").exists()


def test_a_folder_of_the_process_that_cannot_be_found_is_no_obstacle(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    written = workspace.home / "jobs" / "written"
    assert run_isolated(lambda: written.write_text("x"), [workspace]) == 1


def test_no_library_reads_labels_by_their_path(workspace: Workspace) -> None:
    """A library may open a file in a thread of its own, which runs already: nothing binds that one."""
    (truth,) = workspace.home.glob("truth/tiny/*")
    assert truth.stat().st_mode & 0o777 == 0o600
    assert truth.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(pl.exceptions.PolarsError):
        pl.scan_parquet(truth, schema=dict(TRUTH_SCHEMA)).collect()
    (clips,) = workspace.home.glob("data/tiny/clips*")
    assert "path" not in pl.read_parquet(clips).columns


def test_what_tells_labels_is_not_what_tasks_read(workspace: Workspace) -> None:
    places = label_places([workspace])
    assert {workspace.home / name for name in ("data", "truth", "imported")} < set(places)
    (data,) = {catalog.load(workspace, "tiny").root / "fan"}
    assert data in places
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(data / "train"))
        assert data not in label_places([workspace])


def test_a_folder_that_holds_labels_is_not_moved(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "deny_reading", lambda places: False)
    moved = workspace.home.with_name("elsewhere")
    with pytest.raises(PermissionError, match="tells labels"):
        run_isolated(lambda: workspace.home.rename(moved), [workspace])
    assert workspace.home.is_dir()
    monkeypatch.chdir(workspace.home.parent)
    Path("mine.txt").write_text("here")
    assert run_isolated(Path("mine.txt").read_text, [workspace]) == "here"


def test_an_interruption_ends_the_work(workspace: Workspace) -> None:
    began = threading.Event()

    def work() -> None:
        began.set()
        while True:
            time.sleep(0.01)

    def interrupt() -> None:
        began.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_isolated(work, [workspace])
    assert "isolated-task" not in {t.name for t in threading.enumerate()}


def test_the_work_keeps_its_result_and_its_error(workspace: Workspace) -> None:
    assert run_isolated(lambda: isolation() in ("kernel", "python"), [workspace])
    with pytest.raises(ZeroDivisionError):
        run_isolated(lambda: 1 / 0, [workspace])
    assert isolation() == "none"
    assert catalog.load(workspace, "tiny").clips["path"].null_count() == 0
