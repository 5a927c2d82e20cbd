"""The data that a search for fusion weights needs: the members' contributions, and the official score.

Idea: an ensemble's score is linear in its weights, so a search needs only what each member contributes to
every test clip, for each of the ensemble's choices (its fusion settings with a ``Choice`` domain). The
contributions come from stored component scores, through the ensemble's own ``combine`` with one member
weighted at a time. After that thousands of weight vectors per second are evaluated, and no model runs.

Conventions: weights have shape (n, member), contributions (seed, member, clip), scores are fractions. The
official score is that over all given machine types, averaged over seeds.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from asdbench.config import Choice, Scalar, Simplex, settings_of, typed
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.commands import run_command
from asdbench.engine.evaluation import components_of, labeled_clips, labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.scoring import join_members
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.errors import InputError, unknown_name
from asdbench.metrics.bootstrap import rule_means
from asdbench.metrics.official import Rule, metric_clips
from asdbench.metrics.roc import BoolArray, FloatArray, areas, standardized
from asdbench.registry import Configured
from asdbench.system import MemberScores

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Choices: TypeAlias = Mapping[str, Scalar]  # a value of each of the ensemble's choices, by name

_BLOCK = 128  # weight vectors at a time, so that the matrices fit into the cache


@dataclass(frozen=True, eq=False)
class SectionContributions:
    """The test clips of one section, and what each member contributes to their scores.

    Attributes
    ----------
    machine_type, section
        Names of the machine type and the section.
    contributions : shape (choice, seed, member, clip)
        The ensemble's score if only that member has a weight, in the order of ``FusionProblem.choices``.
    anomalous, target : shape (clip,), bool
        True for an anomaly; True for the target domain.
    """

    machine_type: str
    section: str
    contributions: FloatArray
    anomalous: BoolArray
    target: BoolArray


@dataclass(frozen=True, eq=False)
class FusionProblem:
    """The members' contributions as plain arrays, which can be sent to another process.

    Attributes
    ----------
    ensemble, members
        Names of the ensemble and of its members, in the order of the weights.
    weights_setting
        The ensemble's setting that holds the weights.
    choices
        All combinations of the ensemble's choices; the first is the configured one.
    seeds
        The seeds of the members.
    sections
        Every section of every machine type with development labels.
    rule
        The official score's rule.
    """

    ensemble: str
    members: tuple[str, ...]
    weights_setting: str
    choices: tuple[Choices, ...]
    seeds: tuple[int, ...]
    sections: tuple[SectionContributions, ...]
    rule: Rule

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types, sorted."""
        return tuple(sorted({section.machine_type for section in self.sections}))

    @property
    def equal_weights(self) -> FloatArray:
        """Equal weights, shape (member,)."""
        return np.full(len(self.members), 1 / len(self.members))

    def scores(
        self, weights: npt.ArrayLike, choice: Choices, *, types: Sequence[str] | None = None
    ) -> FloatArray:
        """Return the official score of each row of weights, shape (n,).

        Parameters
        ----------
        weights : shape (n, member)
            Weights ≥ 0, of any positive sum.
        choice
            One of ``choices``.
        types
            The machine types that count (default: all).

        Raises
        ------
        InputError
            Weights of the wrong shape, not finite, negative or all 0; an unknown choice or machine type.
        """
        metrics = self.section_metrics(weights, choice, types=types)
        return self.official_scores(metrics)

    def official_scores(self, metrics: Mapping[tuple[str, str], Mapping[str, FloatArray]]) -> FloatArray:
        """Return the official scores, shape (n,), of metrics as `section_metrics` returns them."""
        values = [by_weights for section in metrics.values() for by_weights in section.values()]
        means: FloatArray = rule_means(np.array(values), self.rule).mean(axis=0)
        return means

    def section_metrics(
        self, weights: npt.ArrayLike, choice: Choices, *, types: Sequence[str] | None = None
    ) -> dict[tuple[str, str], dict[str, FloatArray]]:
        """Return the metrics by (machine type, section) and name, each of shape (seed, n).

        Parameters and errors are those of `scores`.
        """
        checked = self._checked(weights)
        index = self._choice_index(choice)
        by_section: dict[tuple[str, str], dict[str, FloatArray]] = {}
        for section in self._sections(types):
            masks = metric_clips(section.anomalous, section.target, rule=self.rule)
            metrics = {name: np.empty((len(self.seeds), len(checked))) for name in masks}
            for seed, contributions in enumerate(section.contributions[index]):
                for start in range(0, len(checked), _BLOCK):
                    block = slice(start, start + _BLOCK)
                    values = _metrics(_weighted(contributions, checked[block]), section.anomalous, masks)
                    for name, block_values in values.items():
                        metrics[name][seed, block] = block_values
            by_section[section.machine_type, section.section] = metrics
        return by_section

    def _checked(self, weights: npt.ArrayLike) -> FloatArray:
        given = np.asarray(weights, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != len(self.members) or not len(given):
            raise InputError(
                f"weights have shape {given.shape}; give (n, {len(self.members)}), a weight for each of "
                f"{', '.join(self.members)}"
            )
        wrong = ~np.isfinite(given).all(axis=1) | (given < 0).any(axis=1) | (given.sum(axis=1) == 0)
        if wrong.any():
            raise InputError(
                f"weights {typed(given[wrong][0].tolist())} cannot be used; give finite weights of at "
                f"least 0, not all 0"
            )
        return given

    def _choice_index(self, choice: Choices) -> int:
        if dict(choice) not in [dict(known) for known in self.choices]:
            raise unknown_name("choice", _typed(choice), map(_typed, self.choices))
        return [dict(known) for known in self.choices].index(dict(choice))

    def _sections(self, types: Sequence[str] | None) -> list[SectionContributions]:
        requested = self.machine_types if types is None else types
        for name in requested:
            if name not in self.machine_types:
                raise unknown_name("machine type", name, self.machine_types)
        if not requested:
            raise InputError("no machine type is given to score; name at least one")
        return [section for section in self.sections if section.machine_type in requested]


def _typed(choice: Choices) -> str:
    return " ".join(f"{name}={typed(value)}" for name, value in choice.items())


# The contributions of the members


def fusion_problem(
    ensemble: Configured,
    data: DataSet,
    store: JobStore,
    *,
    seeds: Sequence[int],
    pseudo_anomaly_data: str | None = None,
    machine_types: Sequence[str] | None = None,
) -> FusionProblem:
    """Return the problem of weighting the members of an ensemble, from their stored component scores.

    Parameters
    ----------
    ensemble : a system with members, whose Config has one setting with a ``Simplex`` domain
    data, store : the data set, and the scores
    seeds : of the members
    pseudo_anomaly_data : data set of the pseudo-anomalies, if not ``data``, for members that take them
    machine_types : those that count, all with development labels (default: all of these)

    Raises
    ------
    InputError
        The system has no weights, fewer than two members, or does not score linearly in its weights; there is
        no seed or no development label, or labels that allow no metric; a member has not been run.
    """
    weights_setting = _weights_setting(ensemble)
    if not seeds:
        raise InputError("no seed is given; --seeds takes one or more whole numbers")
    seeds = tuple(dict.fromkeys(seeds))
    machine_types = _development_types(data) if machine_types is None else machine_types
    choices = _choices(ensemble)
    jobs = {
        machine_type: [
            ResolvedJob.from_configured(
                ensemble, data, machine_type, seed=seed, pseudo_anomaly_data=pseudo_anomaly_data
            )
            for seed in seeds
        ]
        for machine_type in machine_types
    }
    snapshot = store.snapshot()
    for of_type in jobs.values():
        for job in of_type:
            _check_members(job, snapshot, seeds)
    labeled = labeled_clips(data, subset="dev")
    sections: list[SectionContributions] = []
    for machine_type, of_type in jobs.items():
        clips = labeled.filter(pl.col("machine_type") == machine_type)
        tables = [_contributions(job, store, clips, choices, weights_setting) for job in of_type]
        clips = tables[0]  # the same in all, in the same order
        shape = (len(choices), len(ensemble.members), clips.height)
        names = [name for name in clips.columns if name not in labeled.columns]
        values = np.stack([table.select(names).to_numpy().T.reshape(shape) for table in tables], axis=1)
        anomalous = clips["anomaly"].to_numpy()
        target = (clips["domain"] == "target").fill_null(False).to_numpy()
        for section in clips["section"].unique().sort():
            in_section = (clips["section"] == section).to_numpy()
            metric_clips(
                anomalous[in_section], target[in_section], rule=data.rule
            )  # raises where a metric lacks clips
            sections.append(
                SectionContributions(
                    machine_type,
                    str(section),
                    values[..., in_section].copy(),
                    anomalous[in_section],
                    target[in_section],
                )
            )
    members = tuple(member.member_name for member in ensemble.members)
    return FusionProblem(ensemble.name, members, weights_setting, choices, seeds, tuple(sections), data.rule)


def _weights_setting(ensemble: Configured) -> str:
    names = [s.name for s in settings_of(ensemble.system.Config).values() if isinstance(s.domain, Simplex)]
    if not ensemble.members or len(names) != 1:
        raise InputError(
            f"system {ensemble.name!r} has no fusion weights to search; name an ensemble with one setting "
            f"that is declared with a Simplex domain"
        )
    if len(ensemble.members) < 2:
        raise InputError(
            f"{ensemble.name} has one member, {ensemble.members[0].member_name!r}; fusing needs at least two "
            f"members, so name another one"
        )
    return names[0]


def _choices(ensemble: Configured) -> tuple[Choices, ...]:
    """Return all combinations of choices, the configured one first."""
    options = {
        setting.name: setting.domain.options
        for setting in settings_of(ensemble.system.Config).values()
        if isinstance(setting.domain, Choice) and setting.affects == "fusion" and setting.searched
    }
    configured = {name: getattr(ensemble.config, name) for name in options}
    choices = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    return (configured, *(choice for choice in choices if choice != configured))


def _development_types(data: DataSet) -> list[str]:
    types = labeled_types(data, subset="dev")
    if not types and labeled_types(data):
        raise InputError(
            f"data set {data.name!r} has labels for evaluation clips only, and only development labels may "
            f"steer a search; name a data set with labeled development clips"
        )
    if not types:
        raise InputError(
            f"no test clip of data set {data.name!r} has a known label; a search for weights needs labeled "
            f"development clips"
        )
    return types


def _check_members(job: ResolvedJob, snapshot: StoreSnapshot, seeds: Sequence[int]) -> None:
    for member in job.members:
        if not snapshot.is_scored(member):
            command = run_command(
                [job.job.system],
                job.job.data,
                seeds=seeds,
                settings=job.configured.changed(),
                pseudo_anomaly_data=job.job.pseudo_anomaly_data,
            )
            raise InputError(
                f"member {member.configured.member_name!r} of {job.job.system} has no scores on "
                f"{member.job.machine_type} of data set {member.job.data!r} with seed {member.job.seed} "
                f"and these settings; run {command!r}"
            )


def _contributions(
    job: ResolvedJob, store: JobStore, labeled: pl.DataFrame, choices: Sequence[Choices], weights_setting: str
) -> pl.DataFrame:
    """Return ``labeled`` by clip id with a column for each choice and member: the member's contribution."""
    system, config = job.configured.system, job.configured.config
    alone = [tuple(row) for row in np.eye(len(job.members)).tolist()]
    check = tuple(float(number) for number in range(1, len(alone) + 1))

    def combine(
        cls: type, config: "DataclassInstance", scores: Mapping[str, MemberScores]
    ) -> dict[str, torch.Tensor]:
        columns: dict[str, torch.Tensor] = {}
        for index, choice in enumerate(choices):
            added = []
            for weights in (*alone, check):
                changed = dataclasses.replace(config, **choice, **{weights_setting: weights})
                parts = list(system.combine(changed, scores).values())
                if len(parts) != 1:
                    raise InputError(
                        f"the weights of {job.job.system!r} cannot be searched: it returns {len(parts)} "
                        f"components, which are standardized one by one; let 'combine' return one"
                    )
                added.append(parts[0].double())
            expected = torch.tensor(check, dtype=torch.float64) @ torch.stack(added[:-1]) / sum(check)
            if not torch.allclose(added[-1], expected, rtol=1e-9, atol=1e-9):
                raise InputError(
                    f"the weights of {job.job.system!r} cannot be searched: with {_typed(choice)} "
                    f"its score is not the mean of its members' scores, weighted by {weights_setting!r}"
                )
            columns |= {f"choice {index}, member {k}": part for k, part in enumerate(added[:-1])}
        return columns

    # One pass through the platform's own `join_members`, so that its checks and standardization apply.
    every = type(system.__name__, (system,), {"combine": classmethod(combine)})
    members = {
        member.configured.member_name: (
            components_of(member, store),
            member.configured.system.fusion(member.configured.config),
        )
        for member in job.members
    }
    tested = join_members(every, config, members).filter(pl.col("use") == "test").drop("use")
    return labeled.join(tested, on="clip_id").sort("clip_id")


# Metrics of many weight vectors at a time


def _weighted(contributions: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the scores, shape (n, clip), of contributions (member, clip) and weights (n, member).

    Members are added one by one, which gives clips with equal contributions equal scores; a matrix product
    may round differently from column to column.
    """
    scores: FloatArray = weights[:, :1] * contributions[0]
    for member in range(1, len(contributions)):
        scores += weights[:, member, None] * contributions[member]
    return scores


def _metrics(
    scores: FloatArray, anomalous: BoolArray, masks: Mapping[str, tuple[BoolArray, float]]
) -> dict[str, FloatArray]:
    """Return the metrics, each of shape (n,), of scores (n, clip): `partial_auc` for each row at once.

    ``masks`` is what `metric_clips` gives. Clips are sorted once; normal clips below and tied with an anomaly
    are then counted from running sums.
    """
    count, clips = scores.shape
    order = np.argsort(scores, axis=1)
    first, last = _runs(np.take_along_axis(scores, order, axis=1))
    rows = clips * np.arange(count)[:, None]
    values = {}
    for name, (taken, max_fpr) in masks.items():
        normal, anomaly = taken & ~anomalous, taken & anomalous
        normals, anomalies = int(normal.sum()), int(anomaly.sum())
        below = np.zeros((count, clips + 1), dtype=np.int32)  # normal clips among the first k
        np.cumsum(normal[order], axis=1, out=below[:, 1:])
        positions = np.flatnonzero(anomaly[order]).reshape(count, anomalies) - rows
        up_to = np.take_along_axis(below, np.take_along_axis(last, positions, axis=1), axis=1)
        before = np.take_along_axis(below, np.take_along_axis(first, positions, axis=1), axis=1)
        area = areas(normals - up_to, up_to - before, limit=max_fpr * normals).sum(axis=1)
        values[name] = standardized(area / (normals * anomalies), max_fpr)
    return values


def _runs(ranked: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return start and exclusive end of the run of equal scores at each position, shapes (n, clip)."""
    clips = ranked.shape[1]
    positions = np.broadcast_to(np.arange(clips), ranked.shape)
    differs = ranked[:, 1:] != ranked[:, :-1]  # from the previous score
    if differs.all():
        return positions, positions + 1
    edge = np.ones((len(ranked), 1), dtype=bool)
    begins, ends = np.hstack([edge, differs]), np.hstack([differs, edge])
    first = np.maximum.accumulate(np.where(begins, positions, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, positions + 1, clips)[:, ::-1], axis=1)[:, ::-1]
    return first, last
