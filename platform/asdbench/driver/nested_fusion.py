"""What a fused ensemble of tuned members is worth on an unseen machine type.

Both choices leave the type out. For each machine type the members have the settings that their search without
it found (``--protocol leave-one-type-out``), and the weights are found on the other types; the ensemble is
then scored on that type. Without these searches there is no such estimate: weights found without a type, of
members that were tuned with it, have seen its labels.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.study_results import StudyResult
from asdbench.engine.job_store import JobStore
from asdbench.engine.search_record import LeftOutReport, NestedReport
from asdbench.metrics.roc import FloatArray
from asdbench.registry import Configured
from asdbench.search.fusion import BatchResult, RunStudies, run_weight_study
from asdbench.search.fusion_problem import FusionProblem, fusion_problem
from asdbench.search.studies import Study


def with_members(ensemble: Configured, results: Mapping[str, StudyResult]) -> Configured:
    """Return an ensemble whose members have the settings that searches found; variants stay as they are.

    Parameters
    ----------
    ensemble : as the run has it
    results : what the searches found, by system
    """
    settings = dict(ensemble.changed())
    for name in tuned_members(ensemble, results):
        found = results[name].jobs[0].configured.values()
        settings |= {f"{name}.{setting}": value for setting, value in found.items()}
    return registry.configure(ensemble.name, settings)


def tuned_members(ensemble: Configured, systems: Mapping[str, object]) -> list[str]:
    """Return the names of the members whose settings a search of one of ``systems`` gives."""
    return [m.name for m in ensemble.members if m.name in systems and m.variant is None]


def nested_ensembles(
    ensemble: Configured, studies: Sequence[Study], *, tuned: Sequence[str], types: Sequence[str], trials: int
) -> dict[str, Configured]:
    """Return the ensemble with members tuned without a machine type, for each; none if a search is missing.

    Parameters
    ----------
    ensemble : as the run has it
    studies : searches that each leave out a machine type
    tuned : names of the members that are tuned
    types : the machine types with development labels
    trials : number of trials that each search is to have
    """
    found: dict[str, dict[str, StudyResult]] = {held_out: {} for held_out in types}
    for study in studies:
        result = StudyResult.from_study(study, types)
        if study.held_out in found and result is not None and len(study.finished) >= trials:
            found[study.held_out][study.system] = result
    if not types or not all(set(tuned) <= results.keys() for results in found.values()):
        return {}
    return {held_out: with_members(ensemble, results) for held_out, results in found.items()}


def nested_report(
    ensembles: Mapping[str, Configured],
    data: DataSet,
    store: JobStore,
    *,
    seeds: Sequence[int],
    scored_seeds: Sequence[int],
    pseudo_anomaly_data: str | None,
    evaluations: int,
    batch: int,
    seed: int,
    run_studies: RunStudies,
) -> NestedReport:
    """Find the weights of each ensemble without its machine type, and score it on that type.

    Parameters
    ----------
    ensembles : by the machine type that was left out, as `nested_ensembles` returns them
    data, store : the data set and the members' scores
    seeds : with which the weights are found, those of the searches
    scored_seeds : with which the ensembles are scored
    pseudo_anomaly_data : data set of the pseudo-anomalies, if not ``data``
    evaluations, batch, seed, run_studies : as in `asdbench.search.fusion.search_weights`

    Raises
    ------
    InputError
        A member has no scores, or as `run_weight_study` does.
    """
    problem = partial(fusion_problem, data=data, store=store, pseudo_anomaly_data=pseudo_anomaly_data)
    others = {held_out: [name for name in ensembles if name != held_out] for held_out in ensembles}
    seen = {
        held_out: problem(ensemble, seeds=seeds, machine_types=others[held_out])
        for held_out, ensemble in ensembles.items()
    }
    unseen = {
        held_out: problem(ensemble, seeds=scored_seeds, machine_types=[held_out])
        for held_out, ensemble in ensembles.items()
    }
    run_study = partial(_run_without, problems=seen, evaluations=evaluations, batch=batch, seed=seed)
    results = dict(zip(ensembles, run_studies(run_study, list(ensembles)), strict=True))
    found: dict[tuple[str, str], Mapping[str, FloatArray]] = {}
    equal: dict[tuple[str, str], Mapping[str, FloatArray]] = {}
    left_out = {}
    for held_out, result in results.items():
        of_type = unseen[held_out]
        metrics = of_type.section_metrics([result.weights], result.choice)
        found |= metrics
        equal |= of_type.section_metrics([of_type.equal_weights], of_type.choices[0])
        score = float(of_type.official_scores(metrics)[0])
        left_out[held_out] = LeftOutReport(result.weights, score, dict(result.choice))
    rule = next(iter(unseen.values()))  # the same rule for all
    return NestedReport(
        score=float(rule.official_scores(found)[0]),
        equal_weights=float(rule.official_scores(equal)[0]),
        left_out=left_out,
        seeds=tuple(dict.fromkeys(scored_seeds)),
    )


def _run_without(
    held_out: str | None,
    *,
    problems: Mapping[str, FusionProblem],
    evaluations: int,
    batch: int,
    seed: int,
) -> BatchResult:
    """Find the weights of the ensemble that was tuned without a machine type, on the other types."""
    assert held_out is not None
    return run_weight_study(problems[held_out], None, evaluations=evaluations, batch=batch, seed=seed)
