"""Fits the back end of a trained job and scores its clips; the processes of a group share both.

The fits are independent of one another: rank 0 fits to all clips, and those that leave out a fold go round.
Then every process scores some of the clips with what rank 0 has fitted. A clip is scored among the same
others as by one process, so that its scores are the same.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
import torch

from asdbench.data.batch_frames import BatchFrames
from asdbench.data.loader import JobData
from asdbench.engine import scoring, training
from asdbench.engine.device_batches import device_batches
from asdbench.engine.fit_check import check_fit
from asdbench.engine.group_work import gathered
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.module_state import ModuleState
from asdbench.engine.runtime import Runtime
from asdbench.engine.scoring import ClipScores
from asdbench.engine.state import State, backend_state, load_backend, load_trained
from asdbench.system import System


@dataclass(frozen=True, eq=False)
class FittedSystem:
    """A system whose back end is fitted.

    Attributes
    ----------
    scorer : the system
    modules : the state of its modules before the fit
    backend : the state that the fit has added, which was loaded again and scored the same
    """

    scorer: System
    modules: ModuleState
    backend: State


@dataclass(frozen=True, eq=False)
class JobScores:
    """The scores of all clips, and how long they took.

    Attributes
    ----------
    fitted : the system that was fitted to all training clips
    clips : its scores
    fit_seconds, scoring_seconds : of the process whose fits took longest, and the rest
    """

    fitted: FittedSystem
    clips: ClipScores
    fit_seconds: float
    scoring_seconds: float


@dataclass(frozen=True, eq=False)
class _Fits:
    """What the fits of a process took, and the scores of the folds that they left out."""

    seconds: float
    hold_out: Sequence[tuple[int, pl.DataFrame]]


def job_scores(
    resolved: ResolvedJob, trained: State, left_out: Sequence[tuple[JobData, State]], runtime: Runtime
) -> JobScores | None:
    """Fit and score in all processes of the runtime's group; rank 0 gets the scores.

    Parameters
    ----------
    resolved : the job
    trained : the state after training
    left_out : clips without each fold that has a fit of its own, with the state that the fit begins with
    runtime : the processes

    Raises
    ------
    GroupLostError
        A process is gone.
    Exception
        The error that a process met, in all of them.
    """
    began = time.perf_counter()
    whole: list[FittedSystem] = []

    def fit() -> _Fits:
        if runtime.is_rank_zero:
            whole.append(_fitted_system(resolved, trained, runtime.device))
        fit_s = time.perf_counter() - began
        folds, folds_s = _folds(resolved, left_out, runtime)
        return _Fits(fit_s * runtime.is_rank_zero + folds_s, folds)

    fits = gathered(runtime, fit)
    folds = [scores for _, scores in sorted((n, s) for each in fits for n, s in each.hold_out)]
    backend = runtime.broadcast(_on_cpu(whole[0].backend) if whole else {})

    def score() -> scoring.ScoredShare:
        scorer = whole[0].scorer if whole else _loaded(resolved, trained, backend, runtime.device)
        share = {"rank": runtime.rank, "size": runtime.size}
        return scoring.scored_share(scorer, resolved.clips, device=runtime.device, folds=folds, **share)

    shares = gathered(runtime, score)
    if not whole:
        return None
    fit_s = max(each.seconds for each in fits)
    clips = scoring.joined_shares(shares, resolved.clips, folds)
    return JobScores(whole[0], clips, fit_s, time.perf_counter() - began - fit_s)


def _fitted_system(resolved: ResolvedJob, trained: State, device: torch.device) -> FittedSystem:
    scorer, modules = _fitted(resolved, resolved.clips, trained, device)
    backend = backend_state(scorer, trained)
    check_fit(scorer, resolved, trained, backend, modules=modules, device=device)
    return FittedSystem(scorer, modules, backend)


def _folds(
    resolved: ResolvedJob, left_out: Iterable[tuple[JobData, State]], runtime: Runtime
) -> tuple[list[tuple[int, pl.DataFrame]], float]:
    """Return the numbers and hold-out scores of this process's fits without a fold, and the fits' seconds."""
    scores, seconds = [], 0.0
    for number, (clips, trained) in enumerate(left_out):
        if (number + 1) % runtime.size != runtime.rank:  # rank 0 has a fit already
            continue
        began = time.perf_counter()
        scorer, _ = _fitted(resolved, clips, trained, runtime.device)
        seconds += time.perf_counter() - began
        scores.append((number, scoring.hold_out_scores(scorer, clips, device=runtime.device)))
    return scores, seconds


def _fitted(
    resolved: ResolvedJob, clips: JobData, trained: State, device: torch.device
) -> tuple[System, ModuleState]:
    """Return the scoring system with its back end fitted to clips, and its modules' state before the fit."""
    frames = BatchFrames(device)
    return frames.retried(lambda: _fitted_in_batches(resolved, clips, trained, frames))


def _fitted_in_batches(
    resolved: ResolvedJob, clips: JobData, trained: State, frames: BatchFrames
) -> tuple[System, ModuleState]:
    # A new system for this job: that of another job has other scoring settings and a fitted back end.
    training.seed_back_end(resolved.job.seed)
    scorer = _unfitted(resolved, trained).to(frames.device).eval()
    training.seed_back_end(resolved.job.seed)
    modules = ModuleState.of_system(scorer)
    with torch.no_grad():  # inference mode would make tensors that no state can be loaded into
        scorer.fit_backend(device_batches(clips.raw_backend_batches, clips.preparation, frames))
    return scorer, modules


def _unfitted(resolved: ResolvedJob, trained: State) -> System:
    fresh = resolved.build_trained(resolved.clips.facts)
    load_trained(fresh, trained)
    return resolved.build_scorer(fresh)


def _loaded(resolved: ResolvedJob, trained: State, backend: State, device: torch.device) -> System:
    """Return the scoring system with the back end that rank 0 has fitted."""
    scorer = _unfitted(resolved, trained)
    load_backend(scorer, backend)
    return scorer.to(device).eval()


def _on_cpu(state: State) -> State:
    return {name: values.cpu() for name, values in state.items()}
