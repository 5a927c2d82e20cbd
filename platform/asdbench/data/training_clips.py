"""The clips that a training draws from: machine types, facts, joint labels, and the check for leaks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from asdbench.data.feature_store import Layout
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InputError
from asdbench.system import UNKNOWN, Scope, TrainingFacts

JointLabel = tuple[str, str, tuple[tuple[str, str], ...], str]  # machine type, section, attributes, domain


@dataclass(frozen=True)
class TrainingClips:
    """Columns of training clips of all machine types that a job draws from; shape (clip,) each."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    machine: NDArray[np.int64]
    section: NDArray[np.int64]
    domain: NDArray[np.int64]
    attributes: NDArray[np.int64]  # (clip, column)
    group: NDArray[np.int64]
    clip_id: NDArray[np.int64]
    supplemental: NDArray[np.bool_]


def trained_types(data: DataSet, machine_type: str, scope: Scope) -> list[str]:
    """Return the machine types that a training for ``machine_type`` draws ordinary rows from, sorted.

    With the scope ``"data set"`` these are all that have training clips.
    """
    if scope == "machine":
        return [machine_type]
    with_clips = data.clips.filter(pl.col("split") == "train")["machine_type"].unique().to_list()
    return sorted({machine_type, *with_clips})


def training_clips(data: DataSet, machine_type: str, *, split: str = "train") -> pl.DataFrame:
    """Return the training clips of a machine type, or its supplemental ones, in the order of their ids."""
    of_type = (pl.col("machine_type") == machine_type) & (pl.col("split") == split)
    return data.clips.filter(of_type).sort("clip_id")


def supplemental_clips(data: DataSet, machine_types: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Return the supplemental clips of machine types; :class:`InputError` if there are none."""
    tables = {name: training_clips(data, name, split="supplemental") for name in machine_types}
    if any(table.height for table in tables.values()):
        return tables
    raise InputError(
        f"data set {data.name!r} has no supplemental clips of {', '.join(machine_types)}, and this system "
        f"trains with some; choose a system or settings without supplemental rows, or a data set with such "
        f"clips, as those from 2025 on"
    )


def check_pairs(sources: Sequence[tuple[DataSet, str]]) -> None:
    """Raise :class:`InputError` unless every recording has a far microphone besides the stored near one."""
    for data, machine in sources:
        clips = data.clips.filter(pl.col("machine_type") == machine)
        mono = clips.filter(pl.col("channels") < 2)
        if mono.height:
            raise InputError(
                f"this system reads the far microphone of a stereo pair, and {mono.height} of {clips.height} "
                f"recordings of {machine} in data set {data.name!r} have one channel (the first: "
                f"{mono['path'].sort()[0]}); choose another system"
            )
        if data.channels != "near":
            raise InputError(
                f"this system reads both microphones, and data set {data.name!r} is registered with channels "
                f"{data.channels!r}; register its folder again with --channels near"
            )


def pseudo_anomaly_types(
    data: DataSet, machine_type: str, pseudo_anomaly_data: DataSet | None
) -> list[tuple[DataSet, str]]:
    """Return the machine types that serve as pseudo-anomalies for ``machine_type``, with their data sets.

    Raises :class:`InputError` if there is none.
    """
    sources = [
        (pseudo_anomaly_data or data, machine)
        for machine in (pseudo_anomaly_data or data).machine_types
        if machine != machine_type
    ]
    if sources:
        return sources
    lacks = f"data set {(pseudo_anomaly_data or data).name!r} has no machine type but {machine_type!r}"
    raise InputError(
        f"{lacks}; this system takes pseudo-anomalies from other machine types; name a data set that has "
        f"some with --pseudo-anomalies-from"
    )


def reject_leaks(
    data: DataSet, sources: Sequence[tuple[DataSet, str]], *, splits: Sequence[str] = ("train",)
) -> None:
    """Raise if a training clip of a source has the content of a test clip of ``data``."""
    tested = data.clips.filter(pl.col("split") == "test").select("content_hash", tested="path")
    for source, machine in sources:
        trained = source.clips.filter(
            (pl.col("machine_type") == machine) & pl.col("split").is_in(list(splits))
        )
        leaked = trained.join(tested, on="content_hash").sort("path", "tested")
        if leaked.is_empty():
            continue
        path, test_path = leaked.select("path", "tested").row(0)
        count = leaked["path"].n_unique()
        cure = f"remove one of each pair, then register the folder again with {source.add_command!r}"
        if source.name != data.name:
            cure += ", or name another data set with --pseudo-anomalies-from"
        raise InputError(
            f"data leak: {count} training clips of {machine} in data set {source.name!r} have the content of "
            f"test clips of data set {data.name!r} (the first: {path} = {test_path}); {cure}"
        )


def facts_of(training: Mapping[str, pl.DataFrame], *, groups: int) -> TrainingFacts:
    """Return the facts about the training clips of each machine type."""
    values: dict[str, set[str]] = {}
    for table in training.values():
        for row in table["attributes"].to_list():
            for attribute in row or []:
                values.setdefault(attribute["name"], set()).add(attribute["value"])
    attributes = {name: tuple(sorted(found)) for name, found in sorted(values.items()) if len(found) > 1}
    sections = {section for table in training.values() for section in table["section"].unique().to_list()}
    return TrainingFacts(tuple(sorted(sections)), attributes, tuple(training), groups)


def _joint_labels(table: pl.DataFrame, machine_type: str) -> list[JointLabel]:
    columns = table.select("section", "attributes", "domain")
    return [
        (
            machine_type,
            section,
            tuple(sorted((a["name"], a["value"]) for a in attributes or [])),
            domain or "",
        )
        for section, attributes, domain in columns.iter_rows()
    ]


def group_indices(training: Mapping[str, pl.DataFrame]) -> dict[JointLabel, int]:
    """Return the index of each joint label among the training clips of the machine types."""
    labels = {label for name, table in training.items() for label in _joint_labels(table, name)}
    return {label: index for index, label in enumerate(sorted(labels))}


def _groups_of(
    table: pl.DataFrame, machine_type: str | None, groups: Mapping[JointLabel, int]
) -> NDArray[np.int64]:
    if machine_type is None or "supplemental" in table["split"]:
        return np.full(table.height, UNKNOWN, np.int64)
    return np.array([groups[label] for label in _joint_labels(table, machine_type)], np.int64)


def all_training_clips(
    training: Mapping[str, pl.DataFrame],
    supplement: Mapping[str, pl.DataFrame],
    others: Sequence[tuple[DataSet, str]],
    layouts: Sequence[Layout],
    facts: TrainingFacts,
    groups: Mapping[JointLabel, int],
) -> TrainingClips:
    """Return the columns of all clips that a training draws from.

    Parameters
    ----------
    training, supplement : training and supplemental clips of each machine type that is trained on
    others : machine types of pseudo-anomalies, each with its data set
    layouts : where the clips of all these machine types lie among their frames, in this order
    facts, groups : indices of sections, attribute values and joint labels
    """
    machines = {name: index for index, name in enumerate(training)}
    tables: list[tuple[int, str | None, pl.DataFrame]] = [
        (machines[name], name, table) for name, table in (*training.items(), *supplement.items())
    ]
    for index, (data, other) in enumerate(others, start=len(machines)):
        tables.append((index, None, training_clips(data, other)))
    columns = [
        _columns_of(table, layouts[machine], machine, name, facts, groups) for machine, name, table in tables
    ]
    return TrainingClips(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _columns_of(
    table: pl.DataFrame,
    layout: Layout,
    machine: int,
    machine_type: str | None,
    facts: TrainingFacts,
    groups: Mapping[JointLabel, int],
) -> tuple[NDArray[np.int64], ...]:
    """Return the fields of `TrainingClips` for a machine type; ``None`` for one of pseudo-anomalies."""
    spans = np.array([layout.span(clip_id) for clip_id in table["clip_id"]], np.int64).reshape(-1, 2)
    known = machine_type is not None
    sections = {section: position for position, section in enumerate(facts.sections)} if known else {}
    classes = {
        name: {value: position for position, value in enumerate(values)}
        for name, values in facts.attributes.items()
    }
    attributes = np.full((table.height, len(classes)), UNKNOWN, np.int64)
    if known:
        for row, found in enumerate(table["attributes"].to_list()):
            named = {attribute["name"]: attribute["value"] for attribute in found or []}
            for column, (name, indices) in enumerate(classes.items()):
                attributes[row, column] = indices.get(named.get(name, ""), UNKNOWN)
    return (
        spans[:, 0],
        spans[:, 1],
        np.full(table.height, machine, np.int64),
        np.array([sections.get(section, UNKNOWN) for section in table["section"]], np.int64),
        np.array([domain == "target" for domain in table["domain"]], np.int64),
        attributes,
        _groups_of(table, machine_type, groups),
        table["clip_id"].to_numpy(),
        (table["split"] == "supplemental").to_numpy(),
    )
