"""What the driver keeps of the trials of a search: their records, their MLflow runs and their progress.

It is called by the thread of the Ray Tune experiment, and touches the studies from there alone until the
experiment is over.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from asdbench.driver.progress import ProgressDisplay
from asdbench.engine.claims import HeldClaim
from asdbench.engine.events import Failure, Note
from asdbench.engine.job_store import JobStore
from asdbench.errors import InfrastructureError
from asdbench.io.retry import retry_until_stored
from asdbench.report.formatting import format_percent
from asdbench.search.space import Parameters
from asdbench.search.studies import Study, Trial

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Running:
    """A trial under way."""

    study: Study
    trial: Trial


class SearchProgress:
    """Follows the trials of an experiment; see :class:`asdbench.cluster.experiment.TrialObserver`.

    Parameters
    ----------
    studies : the studies of the experiment
    store : where their records are
    display : shows the progress
    trials : how many each study is to have
    on_end : called with each trial that has ended
    claims : by key of the study; one that is lost is not written any longer, since another run writes it
    """

    def __init__(
        self,
        studies: Sequence[Study],
        store: JobStore,
        display: ProgressDisplay,
        *,
        trials: int,
        on_end: Callable[[Study, Trial], None],
        claims: Mapping[str, HeldClaim] | None = None,
    ) -> None:
        self.studies = {study.key: study for study in studies}
        self.failures: list[Failure] = []
        self._store = store
        self._display = display
        self._trials = trials
        self._on_end = on_end
        self._claims = claims or {}
        self._running: dict[str, _Running] = {}
        for study in studies:
            self._show(study)

    def begin(self, study: str, trial: str, parameters: Mapping[str, object]) -> int:
        """Note that a trial begins; return its number in the study."""
        of = self.studies[study]
        begun = of.start_trial(cast(Parameters, dict(parameters)))
        self._running[trial] = _Running(of, begun)
        self._save(of)
        self._show(of)
        return begun.number

    def report(self, trial: str, report: Mapping[str, Any]) -> None:
        """Note the score of a machine type, or why the trial failed; one that is run again starts over."""
        of = self._running[trial].trial
        if report.get("failed"):
            of.message = report["failed"]
        elif report.get("judged") is not None:
            machine_type, metrics = report["judged"]
            del of.rungs[report["types"] - 1 :]
            of.rungs.append(report["score"])
            of.types[machine_type] = metrics

    def end(self, trial: str, error: str | None) -> None:
        """Note that a trial has ended.

        One that ended by an error keeps its place: the same command runs it again.
        """
        running = self._running.pop(trial)
        study, of = running.study, running.trial
        if error is not None:
            label = f"trial {of.number} of {name_of(study)}"
            self.failures.append(Failure(label, error, bad_input=False))
            self._display.on_event(Note(f"{label} could not be finished: {error.splitlines()[-1]}"))
            return
        if of.message is not None:
            of.state = "failed"
        else:
            of.state = "complete" if len(of.rungs) == len(study.machine_types) else "pruned"
        of.ended_unix_s = time.time()
        self._save(study)
        self._on_end(study, of)
        finished = f"trial {of.number} {of.state}, {format_percent(of.score)}"
        if of.message is not None:
            finished += f" ({of.message.splitlines()[-1]})"
        self._show(study, ended_trial=finished)

    def check(self) -> None:
        """Check that no other run has taken over a study.

        Raises
        ------
        InfrastructureError
            One has.
        """
        for key, claim in self._claims.items():
            if claim.is_lost:
                raise InfrastructureError(
                    f"another run has taken over the search of {name_of(self.studies[key])}, since this one "
                    f"stood still for too long; run the same command again to resume"
                )

    def _save(self, study: Study) -> None:
        claim = self._claims.get(study.key)
        if claim is not None and claim.is_lost:
            return
        retry_until_stored(
            partial(study.save, self._store),
            on_wait=lambda reason: self._display.on_event(Note(reason)),
            transient_only=True,
        )

    def running(self, study: Study) -> int:
        """Return how many trials of a study are under way."""
        return sum(running.study is study for running in self._running.values())

    def _show(self, study: Study, *, ended_trial: str | None = None) -> None:
        best, untuned = study.best_trial(), study.untuned_trial()
        self._display.update_search(
            name_of(study),
            done=len(study.finished),
            trials=self._trials,
            running=self.running(study),
            best=best.score if best else None,
            untuned=untuned.score if untuned else None,
            ended_trial=ended_trial,
        )


def name_of(study: Study) -> str:
    """Return the name of a study for people: its system, and the machine type that it leaves out."""
    return study.system if study.held_out is None else f"{study.system} without {study.held_out}"
