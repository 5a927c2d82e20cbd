"""Results: stored scores, fused, thresholded, joined with the truth and judged. Truth is joined here alone.

A result is of a job and a subset: of the sections whose test clips are dev, or of those whose are eval. It is
counted by the rule of its data set, which it holds under ``rule``.

A result whose settings a search chose by labels says so under ``tuned``; it is another result than that of a
user who gave the same settings.

The decision threshold comes from normal clips only (`asdbench.engine.decision_thresholds`). Its false alarms
are counted twice: among held-out normal clips of recordings that it has not seen, and among the normal test
clips of each domain.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property

import msgspec
import polars as pl

from asdbench.data.sets.catalog import DataSet
from asdbench.data.sets.layouts import SUBSETS
from asdbench.engine.decision_thresholds import decision_thresholds
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ALL_TYPES, ResolvedJob, key_of
from asdbench.engine.judge import (
    Judge,
    JudgeRequest,
    by_section,
    judge,
    official,
    with_labels,
)
from asdbench.engine.judge import NoLabels as NoLabels
from asdbench.engine.judge import labeled_clips as labeled_clips
from asdbench.engine.platform_code import judging_code
from asdbench.engine.pretrained import code_of
from asdbench.engine.result_record import (
    ResultKeys,
    ResultRecord,
    SearchProvenance,
    StoredThreshold,
    from_json,
    to_json,
)
from asdbench.engine.scoring import fuse_components, join_members
from asdbench.engine.task_records import TrainingRecord, now
from asdbench.engine.versions import distinct, installed
from asdbench.io.records import RecordError
from asdbench.metrics import (
    Rule,
)
from asdbench.system import Fusion

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A judged job.

    Attributes
    ----------
    key : its key in the job store
    record : what is stored
    """

    key: str
    record: ResultRecord


def anomaly_scores(resolved: ResolvedJob, store: JobStore) -> pl.DataFrame:
    """Return ``clip_id``, ``use`` and ``score`` of a scored job."""
    return fuse_components(components_of(resolved, store), fusion_of(resolved))


def components_of(resolved: ResolvedJob, store: JobStore) -> pl.DataFrame:
    """Return the component scores of a scored job by ``clip_id`` and ``use``; an ensemble joins them here."""
    if not resolved.members:
        return store.components(resolved.scoring_key)
    members = {
        member.configured.member_name: (components_of(member, store), fusion_of(member))
        for member in resolved.members
    }
    return join_members(resolved.configured.system, resolved.configured.config, members)


def fusion_of(resolved: ResolvedJob) -> Fusion:
    """Return how a job's components are combined."""
    return resolved.configured.system.fusion(resolved.configured.config)


def training_records(resolved: ResolvedJob, store: JobStore) -> dict[str, TrainingRecord]:
    """Return the records of the trainings of a scored job, by the trained system's name.

    Where an ensemble has several trainings of one system, they are named as the first member that uses each.
    """
    first = {part.training_key: part.configured for part in reversed(resolved.parts)}
    trained = [configured.trainer.name for configured in first.values()]
    return {
        configured.member_name if trained.count(configured.trainer.name) > 1 else configured.trainer.name: (
            store.training_record(key)
        )
        for key, configured in reversed(first.items())
    }


def judge_sections(resolved: ResolvedJob, store: JobStore, *, subset: str) -> dict[str, dict[str, float]]:
    """Return the metrics of a scored job in a subset, by section and name; nothing is stored.

    They are those of :func:`evaluate` by the rule of the data set, without what takes time: intervals and
    decisions. Raises as :func:`evaluate` does.
    """
    judged = with_labels(_request(resolved, anomaly_scores(resolved, store), subset, {}), resolved.data)
    return {section: official(rows, resolved.data.rule) for section, rows in by_section(judged)}


def _request(
    resolved: ResolvedJob, scores: pl.DataFrame, subset: str, thresholds: Mapping[str, StoredThreshold]
) -> JudgeRequest:
    limits = {m: stored.threshold for m, stored in thresholds.items() if stored.threshold is not None}
    return JudgeRequest.from_scores(resolved.data, resolved.job.machine_type, subset, scores, limits)


def evaluate(
    resolved: ResolvedJob,
    store: JobStore,
    *,
    subset: str | None = None,
    tuned: SearchProvenance | None = None,
    judge: Judge = judge,
) -> Result:
    """Return the metrics of a scored job in a subset, from the store if they are stored.

    A stored record that does not fit is replaced. The default of ``subset`` is dev, or eval where no dev test
    clip of the machine type has a known label. With ``tuned`` the result is that of the search that chose the
    settings, next to the one of a user's own choice. ``judge`` joins scores and labels, by default in this
    process. Raises :class:`NoLabels` where no test clip of the machine type in that subset has a label,
    :class:`InputError` where the labels allow no metric.
    """
    truth = truth_of_type(labeled_clips(resolved.data), resolved.job.machine_type)
    subset = subset or first_subset(truth)
    rule = resolved.data.rule
    key = result_key(resolved, truth, subset=subset, tuned=tuned)
    name = store.result(key)
    if store.root.exists(name):
        try:
            return Result(key, from_json(store.root.read(name), path=f"{store.root}/{name}"))
        except RecordError as error:
            logger.warning("the stored result is replaced: %s", error)
    scores = anomaly_scores(resolved, store)
    trainings = training_records(resolved, store).values()
    scorings = [store.scoring_record(key) for key in dict.fromkeys(p.scoring_key for p in resolved.parts)]
    scoring_seconds = sum(scoring.scoring_seconds for scoring in scorings)
    thresholds = decision_thresholds(resolved, scores)
    sections = judge(_request(resolved, scores, subset, thresholds))
    record = ResultRecord(
        system=resolved.job.system,
        settings=resolved.configured.values(),
        changed_settings=resolved.configured.changed(),
        data=resolved.data.name,
        data_version=resolved.data.version,
        machine_type=resolved.job.machine_type,
        seed=resolved.job.seed,
        pseudo_anomaly_data=resolved.job.pseudo_anomaly_data,
        subset=subset,
        tuned=tuned,
        transductive=resolved.configured.is_transductive(),
        rule=rule,
        keys=ResultKeys(tuple(sorted({part.training_key for part in resolved.parts})), resolved.scoring_key),
        fingerprint=resolved.fingerprint(),
        code=code_of(resolved.configured),
        versions=distinct(
            [installed(), *(each.versions for each in trainings), *(each.versions for each in scorings)]
        ),
        thresholds=thresholds,
        sections=sections,
        hold_out_clips=scores.filter(pl.col("use") == "hold-out").height,
        parameters=sum(training.parameters for training in trainings),
        macs_per_clip=sum(scoring.macs_per_clip for scoring in scorings),
        training_seconds=sum(_seconds_of_type(training) for training in trainings),
        training_steps=sum(training.steps for training in trainings),
        scoring_seconds=scoring_seconds,
        clips_per_second=scorings[0].clips_scored / max(scoring_seconds, 1e-9),
        finished=now(),
    )
    store.root.write(name, to_json(record))
    return Result(key, record)


def _seconds_of_type(training: TrainingRecord) -> float:
    """Return the seconds of a training, or a machine type's share where one is for all types."""
    is_shared = training.description["machine_type"] == ALL_TYPES
    return training.seconds / (len(training.description["clips"]) if is_shared else 1)


def result_key(
    resolved: ResolvedJob, truth: pl.DataFrame, *, subset: str, tuned: SearchProvenance | None = None
) -> str:
    """Return the name of a job's result in the store; ``truth`` is `labeled_clips` of its machine type."""
    return _result_key(resolved, _truth_digest(truth, subset), subset, tuned)


def _result_key(resolved: ResolvedJob, truth_digest: str, subset: str, tuned: SearchProvenance | None) -> str:
    return key_of(
        {
            "platform": judging_code(),
            "scoring": resolved.scoring_key,
            "fusion": resolved.configured.values("fusion"),
            "data": resolved.data.name,
            "fingerprint": resolved.fingerprint(),
            "subset": subset,
            "rule": _described(resolved.data.rule),
            "truth": truth_digest,
        }
        | ({"tuned": msgspec.structs.asdict(tuned)} if tuned else {})
    )


@cache
def _described(rule: Rule) -> dict[str, object]:
    return asdict(rule)


def _truth_digest(truth: pl.DataFrame, subset: str) -> str:
    judged = truth.filter(pl.col("subset") == subset).select("clip_id", "section", "domain", "anomaly")
    rows = sorted(judged.iter_rows())
    return hashlib.blake2b(repr(rows).encode(), digest_size=12).hexdigest()


class JudgedTypes:
    """The labels of a data set, prepared to name the results of many jobs.

    Parameters
    ----------
    labeled : the data set's `labeled_clips`
    """

    def __init__(self, labeled: pl.DataFrame) -> None:
        self._truth = {str(kind): rows for (kind,), rows in labeled.group_by("machine_type")}
        self._digests: dict[tuple[str, str], str] = {}

    @property
    def types(self) -> frozenset[str]:
        """The machine types that have test clips with known labels."""
        return frozenset(self._truth)

    def result_key(self, resolved: ResolvedJob, *, subset: str, tuned: SearchProvenance | None = None) -> str:
        """Return what :func:`result_key` does, for a job on one of `types`."""
        return _result_key(resolved, self._digest_of(resolved.machine_type, subset), subset, tuned)

    @cached_property
    def digest(self) -> str:
        """A hash of all labels."""
        return key_of({kind: [self._digest_of(kind, subset) for subset in SUBSETS] for kind in self._truth})

    def _digest_of(self, machine_type: str, subset: str) -> str:
        if (machine_type, subset) not in self._digests:
            self._digests[machine_type, subset] = _truth_digest(self._truth[machine_type], subset)
        return self._digests[machine_type, subset]


def first_subset(labeled: pl.DataFrame) -> str:
    """Return the subset that is judged where none is named: dev if any of `labeled_clips` is, else eval.

    Without any label it is dev.
    """
    return "eval" if set(labeled["subset"]) == {"eval"} else "dev"


def labeled_types(data: DataSet, *, subset: str | None = None) -> list[str]:
    """Return the machine types that have test clips with known labels, in a subset or at all, sorted."""
    return sorted(labeled_clips(data, subset=subset)["machine_type"].unique())


def judged_scores(resolved: ResolvedJob, store: JobStore, *, subset: str | None = None) -> pl.DataFrame:
    """Return the scored test clips whose label is known: the columns of `labeled_clips` and ``score``."""
    return _with_labels(anomaly_scores(resolved, store), resolved.data, subset)


def _with_labels(scores: pl.DataFrame, data: DataSet, subset: str | None) -> pl.DataFrame:
    tested = scores.filter(pl.col("use") == "test").select("clip_id", "score")
    return labeled_clips(data, subset=subset).join(tested, on="clip_id").sort("clip_id")


def truth_of_type(labeled: pl.DataFrame, machine_type: str) -> pl.DataFrame:
    """Return the rows of one machine type."""
    return labeled.filter(pl.col("machine_type") == machine_type)
