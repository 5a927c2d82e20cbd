"""Fits and scores that processes share: those of one process, and one's failure is everyone's."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal

from asdbench.data import clip_windows
from asdbench.data.sets import catalog
from asdbench.engine import job_scores as fits_and_scores
from asdbench.engine.group_work import GroupLostError, gathered
from asdbench.engine.job_scores import JobScores, job_scores
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.runtime import Runtime
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny

SIZE = 3


class Meeting:
    """Stands for a process group whose processes are threads."""

    def __init__(self, size: int) -> None:
        self._values: list[Any] = [None] * size
        self._barrier = threading.Barrier(size, timeout=60)

    def runtime(self, rank: int) -> Runtime:
        def gather(value: Any) -> list[Any]:
            self._values[rank] = value
            self._barrier.wait()
            values = list(self._values)
            self._barrier.wait()
            return values

        def broadcast(value: Any) -> Any:
            return gather(value)[0]

        return Runtime(rank=rank, size=len(self._values), gather=gather, broadcast=broadcast)


def in_group(work: Callable[[Runtime], Any], size: int = SIZE) -> list[Any]:
    """Return what ``work`` returns or raises in each of ``size`` processes."""
    results: list[Any] = [None] * size
    meeting = Meeting(size)

    def member(rank: int) -> None:
        try:
            results[rank] = work(meeting.runtime(rank))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=member, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_what_one_process_fails_at_reaches_all() -> None:
    def part(rank: int) -> int:
        if rank == 1:
            raise ValueError("singular")
        return rank

    failures = in_group(lambda runtime: gathered(runtime, lambda: part(runtime.rank)))
    assert [type(each) for each in failures] == [ValueError] * SIZE
    assert [str(each) for each in failures] == ["singular"] * SIZE
    assert "raised in process 1" in failures[0].__notes__[0]
    assert "test_job_scores.py" in failures[0].__notes__[0]
    assert in_group(lambda runtime: gathered(runtime, lambda: runtime.rank)) == [[0, 1, 2]] * SIZE


def test_an_error_that_cannot_be_sent_is_described() -> None:
    class Local(Exception):
        pass

    def part(rank: int) -> None:
        if rank == 0:
            raise Local("of a class that no other process has")

    failures = in_group(lambda runtime: gathered(runtime, lambda: part(runtime.rank)), size=2)
    assert isinstance(failures[0], Local)
    assert str(failures[1]) == "Local: of a class that no other process has"


def test_the_loss_of_a_process_is_no_error_of_the_work() -> None:
    def lost(_: Any) -> Any:
        raise RuntimeError("[gloo] Connection closed by peer")

    with pytest.raises(GroupLostError, match="gloo"):
        gathered(Runtime(gather=lost), lambda: 3)
    with pytest.raises(ZeroDivisionError):
        gathered(Runtime(gather=lost), lambda: 1 // 0)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResolvedJob]:
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ASDBENCH_HOME", str(folder / "home"))
        patch.setattr(clip_windows, "SCORING_FRAMES", 600)  # several batches
        workspace = Workspace.from_environment()
        catalog.add(workspace, "tiny", write_tiny(folder / "clips", machine_types=["fan"]))
        yield ResolvedJob.from_workspace(Job("spectra-knn", {}, "tiny", "fan", 0), workspace)


def left_out(job: ResolvedJob) -> list[Any]:
    state = job.build_trained(job.clips.facts).state_dict()
    return [(job.clips.without_fold(fold), state) for fold in range(job.clips.n_folds)]


def scored(job: ResolvedJob, runtime: Runtime) -> JobScores | None:
    return job_scores(job, job.build_trained(job.clips.facts).state_dict(), left_out(job), runtime)


def test_three_processes_fit_and_score_as_one_does(job: ResolvedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "manual_seed", lambda _: None)  # threads share torch's generator
    fitted: list[str] = []
    fit = fits_and_scores._fitted

    def counted(*arguments: Any) -> Any:
        fitted.append(threading.current_thread().name)
        return fit(*arguments)

    monkeypatch.setattr(fits_and_scores, "_fitted", counted)
    alone = scored(job, Runtime())
    n_fits = len(fitted)
    assert alone is not None
    assert n_fits == 1 + job.clips.n_folds > SIZE
    fitted.clear()
    together, *others = in_group(lambda runtime: scored(job, runtime))
    assert others == [None] * (SIZE - 1)
    assert len(fitted) == n_fits
    assert max(fitted.count(name) for name in set(fitted)) <= -(-n_fits // SIZE)
    assert together.clips.components.equals(alone.clips.components)
    assert_array_equal(together.clips.embeddings, alone.clips.embeddings)
    assert set(together.clips.components["use"]) == {"hold-out", "hold-out-target", "test"}


def test_shares_of_scored_clips_end_where_batches_do(job: ResolvedJob) -> None:
    data, ids = job.clips, job.clips.test_ids
    batches = [batch.n_clips for batch in data.scoring_batches(ids)]
    shares = [data.scoring_share(ids, rank, SIZE) for rank in range(SIZE)]
    assert_array_equal([clip for share in shares for clip in share], ids)
    in_shares = [batch.n_clips for share in shares for batch in data.scoring_batches(share)]
    assert len(batches) > SIZE
    assert in_shares == batches
    assert sum(len(data.scoring_share(ids[:1], rank, SIZE)) for rank in range(SIZE)) == 1


def test_a_failing_fit_without_a_fold_fails_in_every_process(
    job: ResolvedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fits_and_scores._fitted

    def failing(resolved: Any, clips: Any, *rest: Any) -> Any:
        if clips is not resolved.clips:
            raise ValueError("too few clips")
        return fit(resolved, clips, *rest)

    monkeypatch.setattr(fits_and_scores, "_fitted", failing)
    assert [str(each) for each in in_group(lambda runtime: scored(job, runtime), 2)] == ["too few clips"] * 2
