"""The MLflow runs of a search: an outer run that grows, and one nested run for each trial.

Conventions: scores are in percent with two decimals. The metric of a trial is ``score``, over the machine
types that were finished at the time; their number is the step. The metrics of a machine type are
``metrics/<machine type>/auc_source`` and so on, losses ``curves/<machine type>/<stage> <name>`` with the
epoch as step. The search summarizes its trials; see `asdbench.tracking.mlflow_runs`.

Searches are in an experiment of their own, ``asdbench/<data set>/searches``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import asdbench
from asdbench.tracking.records import (
    IS_DEFAULT,
    KEY,
    KIND,
    TRIAL,
    TRIALS,
    Curve,
    RunRecord,
    Status,
    TrialEntry,
    at_step_0,
    losses,
    n_trials,
    percent,
    run_name,
    texts,
)
from asdbench.tracking.views import search_views

TrialState = Literal["complete", "pruned", "failed"]

_STATUS: dict[TrialState, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True, eq=False)
class SearchRecord:
    """A search for settings: what its trials have in common.

    Attributes
    ----------
    key : identity of the search, which is the same after it is interrupted and resumed
    system : system whose settings are searched
    data : name of the data set
    subset : subset whose labels the search uses
    protocol : ``"dev"`` or ``"leave-one-type-out"``
    held_out : machine type that the search does not use, ``None`` if it uses all
    settings : settings that all trials share
    seeds : seeds over which the score of a trial is averaged
    trials : requested number of trials; may grow when the search is resumed
    """

    key: str
    system: str
    data: str
    subset: str
    protocol: str
    held_out: str | None
    settings: Mapping[str, object]
    seeds: Sequence[int]
    trials: int


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One trial of a search.

    Attributes
    ----------
    number : number in the search
    settings : settings that it changes in addition to those of the search; empty for the untuned trial
    state : ``"complete"``, ``"pruned"`` or ``"failed"``
    rungs : numbers of finished machine types with the score over them, in order
    metrics : metrics by machine type and name
    curves : training curve by machine type
    began, ended : start and end in seconds since 1970
    """

    number: int
    settings: Mapping[str, object]
    state: TrialState
    rungs: Sequence[tuple[int, float]]
    metrics: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Curve]
    began: float
    ended: float


def trial_entry(search: SearchRecord, trial: TrialRecord, source: Mapping[str, str]) -> TrialEntry:
    """Return the entry to deliver for a trial; ``source`` are tags that identify the code."""
    began_ms, ended_ms = round(1000 * trial.began), round(1000 * trial.ended)
    tags = {
        KEY: search.key,
        "asdbench.version": asdbench.__version__,
        "asdbench.system": search.system,
        "asdbench.subset": search.subset,
        "asdbench.protocol": search.protocol,
        **source,
    }
    params = {**search.settings, "system": search.system, "data": search.data}
    held_out = "" if search.held_out is None else f", without {search.held_out}"
    search_record = RunRecord(
        name=run_name(search.system, search.settings, f": {n_trials(search.trials)}{held_out}"),
        tags={**tags, KIND: "search", TRIALS: str(search.trials)},
        params=texts(
            {
                **params,
                "subset": search.subset,
                "protocol": search.protocol,
                "held_out": search.held_out,
                "seeds": " ".join(map(str, search.seeds)),
            }
        ),
        metrics=[],
        began_ms=began_ms,
        ended_ms=ended_ms,
    )
    trial_record = RunRecord(
        name=run_name(f"trial {trial.number}", trial.settings),
        tags={**tags, KIND: "trial", TRIAL: str(trial.number), IS_DEFAULT: str(not trial.settings).lower()},
        params=texts({**params, **trial.settings, "trial": trial.number}),
        metrics=[
            *(("score", percent(score), finished) for finished, score in trial.rungs),
            *at_step_0(
                {
                    f"metrics/{machine_type}/{name}": percent(value)
                    for machine_type, metrics in trial.metrics.items()
                    for name, value in metrics.items()
                }
            ),
            *(
                point
                for machine_type, curve in trial.curves.items()
                for point in losses(curve, f"curves/{machine_type}")
            ),
        ],
        began_ms=began_ms,
        ended_ms=ended_ms,
        status=_STATUS[trial.state],
    )
    return TrialEntry(f"{search.data}/searches", search_record, trial_record, search_views())
