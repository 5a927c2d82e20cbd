"""Export a scored system as a folder that scores recordings: an MLflow model without pickled code.

All that a detector needs is stored already: weights, fitted back end, hold-out scores. What is computed here
are the statistics of the spectrograms and the normal level of each frequency, from training normals only.
"""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import torch
from torch import Tensor

from asdbench.data import feature_store
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.decision_thresholds import decision_thresholds
from asdbench.engine.evaluation import (
    anomaly_scores,
    components_of,
    fusion_of,
)
from asdbench.engine.export_record import (
    RECORD,
    ClipCounts,
    DataCard,
    ExportedModel,
    ExportRecord,
    MachineRecord,
    NetworkFile,
    Probe,
    digest_of,
    to_json,
)
from asdbench.engine.fitted_fusion import FittedFusion, Normalization
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.machine_detector import MachineDetector, probe_clip
from asdbench.engine.onnx_network import check_onnx, onnx_network
from asdbench.engine.pretrained import code_of, weight_digests
from asdbench.engine.scoring import fuse_components
from asdbench.engine.spectrum import mean_level_db
from asdbench.engine.state import stored_states
from asdbench.engine.task_records import now
from asdbench.engine.versions import installed
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace
from asdbench.metrics import DEFAULT_THRESHOLD, THRESHOLDS
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs
from asdbench.spec import SAMPLE_RATE_HZ

_LEVEL_CLIPS = 64  # training clips that the normal level is the mean over
_PROBE_S = 10.0  # longest probe


@dataclass(frozen=True)
class ExportRequest:
    """A request to export a system.

    Attributes
    ----------
    system, data : names of the system and of the data set
    machines : machine types; empty for all
    seed : random seed of the run
    settings : preset and settings of the run
    threshold : method of the decision threshold
    onnx : also write the network of each machine type as an ONNX file
    """

    system: str
    data: str
    machines: Sequence[str] = ()
    seed: int = 0
    settings: StoredRunOptions = field(default_factory=StoredRunOptions)
    threshold: str = DEFAULT_THRESHOLD
    onnx: bool = False


def export_system(request: ExportRequest, workspace: Workspace, output: Path) -> ExportRecord:
    """Export a system from stored results to a folder, and return what was written.

    Raises
    ------
    InputError
        A name or setting does not exist, the system has not been run with these settings, or ``output`` is a
        folder with other content.
    """
    data = catalog.load(workspace, request.data)
    for machine in request.machines:
        if machine not in data.machine_types:
            raise unknown_name(f"machine type in data set {data.name!r}:", machine, data.machine_types)
    store = JobStore.from_workspace(workspace)
    jobs = scored_jobs(
        [request.system],
        data,
        store,
        seeds=[request.seed],
        machine_types=list(dict.fromkeys(request.machines)) or list(data.machine_types),
        settings=request.settings,
    )
    (of_types,) = jobs[request.system].values()
    return export_model(
        list(of_types.values()), store, output, threshold=request.threshold, onnx=request.onnx
    )


def export_model(
    jobs: Sequence[ResolvedJob],
    store: JobStore,
    output: Path,
    *,
    threshold: str = DEFAULT_THRESHOLD,
    onnx: bool = False,
) -> ExportRecord:
    """Write the detector of scored jobs to the folder ``output`` and return its record.

    Parameters
    ----------
    jobs : of one system with one seed, one job per machine type, all scored
    store : store with their results
    output : folder to write; an earlier export there is replaced
    threshold : method of the decision threshold unless another is chosen when detecting
    onnx : also write the network of each machine type as an ONNX file

    Raises
    ------
    InputError
        There is no such threshold method, ``output`` holds something else than an export, or the network
        cannot be converted to ONNX.
    """
    from asdbench.tracking.models import save_model

    if threshold not in THRESHOLDS:
        raise unknown_name("threshold method", threshold, THRESHOLDS)
    _check_output(output)
    if onnx:
        check_onnx()
    with _new_folder(output) as folder, tempfile.TemporaryDirectory() as temporary:
        content = Path(temporary) / "detector"
        content.mkdir()
        record = _write_detector(jobs, store, content, threshold, onnx=onnx)
        save_model(content, folder, record)
    return record


def _check_output(output: Path) -> None:
    """Raise :class:`InputError` if ``output`` is neither missing, nor empty, nor an earlier export."""
    if output.is_dir() and (not any(output.iterdir()) or (output / "data" / "detector" / RECORD).exists()):
        return
    if output.exists() or output.is_symlink():
        raise InputError(
            f"{str(output)!r} exists and is not an exported detector; name another folder with --output"
        )


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Give a temporary folder next to ``output``; on success it replaces ``output``."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
        folder = Path(temporary) / "new"
        yield folder
        if output.exists():
            output.rename(Path(temporary) / "old")
        folder.rename(output)


def _write_detector(
    jobs: Sequence[ResolvedJob], store: JobStore, folder: Path, threshold: str, *, onnx: bool
) -> ExportRecord:
    """Write the record and the tensors of each machine type."""
    first = jobs[0]
    export = ExportRecord(
        system=first.configured.name,
        settings=first.configured.values(),
        changed_settings=first.configured.changed(),
        code=code_of(first.configured),
        chosen_on=tuple(sorted(first.configured.chosen_on())),
        seed=first.seed,
        threshold_method=threshold,
        machines={},
        data=_data_card(first.data),
        versions=installed(),
        created=now(),
    )
    machines = {}
    for number, resolved in enumerate(jobs):
        machines[resolved.machine_type] = _write_machine(
            resolved,
            store,
            export,
            folder / f"tensors-{number:02d}.pt",
            network=folder / f"network-{number:02d}.onnx" if onnx else None,
        )
    export = msgspec.structs.replace(export, machines=machines)
    (folder / RECORD).write_bytes(to_json(export))
    return export


def _data_card(data: DataSet) -> DataCard:
    return DataCard(data.name, data.license, data.fingerprint(), data.rule, data.channels)


def _write_machine(
    resolved: ResolvedJob, store: JobStore, export: ExportRecord, path: Path, *, network: Path | None
) -> MachineRecord:
    try:
        tensors: dict[str, Any] = {
            "models": [_tensors(part, store) for part in resolved.parts],
            "normal_level_db": _normal_level_db(resolved.parts[0]),
        }
        content = io.BytesIO()
        torch.save(tensors, content)
        path.write_bytes(content.getvalue())
        clips = _clip_counts(resolved.parts[0])
        samples = round(min(clips.median_s, _PROBE_S) * SAMPLE_RATE_HZ)
        fused = anomaly_scores(resolved, store)
        record = MachineRecord(
            file=path.name,
            digest=digest_of(content.getvalue()),
            models=tuple(_exported_model(part, store) for part in resolved.parts),
            fusion=_fusion(resolved, store) if resolved.members else None,
            thresholds=decision_thresholds(resolved, fused),
            clips=clips,
            fingerprint=resolved.fingerprint(),
            probe=Probe(samples, 0.0),
        )
        detector = MachineDetector(
            resolved.machine_type, record, export, tensors, workspace=resolved.data.workspace
        )
        score = float(detector.scores([probe_clip(samples)]).score[0])
        return msgspec.structs.replace(
            record,
            probe=Probe(samples, score),
            network=_write_network(detector, network) if network is not None else None,
        )
    finally:
        for part in (resolved, *resolved.parts):
            vars(part).pop("clips", None)


def _write_network(detector: MachineDetector, path: Path) -> NetworkFile:
    content = onnx_network(detector)
    path.write_bytes(content)
    return NetworkFile(path.name, digest_of(content), tuple(detector.record.models[0].fusion.weights))


def _tensors(part: ResolvedJob, store: JobStore) -> dict[str, Any]:
    trained, backend = stored_states(part, store)
    statistics = part.clips.standardization
    return {
        "trained": dict(trained),
        "backend": dict(backend),
        "standardization": None if statistics is None else (statistics.mean, statistics.deviation),
        "feature_standardizations": {
            name: (each.mean, each.deviation) for name, each in part.clips.feature_standardizations.items()
        },
    }


def _fusion(resolved: ResolvedJob, store: JobStore) -> FittedFusion:
    return FittedFusion.from_table(components_of(resolved, store), fusion_of(resolved))


def _exported_model(part: ResolvedJob, store: JobStore) -> ExportedModel:
    components = components_of(part, store).sort("use", "clip_id")  # as an ensemble orders them
    fused = fuse_components(components, fusion_of(part))
    facts = part.clips.facts
    return ExportedModel(
        system=part.configured.name,
        settings=part.configured.values(),
        code=code_of(part.configured),
        sections=facts.sections,
        attributes=dict(facts.attributes),
        machine_types=facts.machine_types,
        groups=facts.groups,
        section=_only_section(part),
        fusion=_fusion(part, store),
        normalization=Normalization.from_table(fused, "score"),
        weights=weight_digests(part.configured, part.data.workspace),
    )


def _only_section(part: ResolvedJob) -> str | None:
    """Return the section of a machine type's training clips, if they have one only."""
    clips = part.data.clips.filter(pl.col("clip_id").is_in(part.clips.training_ids.tolist()))
    sections: list[str] = clips["section"].unique().to_list()
    return sections[0] if len(sections) == 1 else None


def _clip_counts(part: ResolvedJob) -> ClipCounts:
    clips = part.data.clips.filter(pl.col("clip_id").is_in(part.clips.training_ids.tolist()))
    durations = clips["duration_s"]
    return ClipCounts(
        training=clips.height,
        hold_out=len(part.clips.hold_out_ids),
        target_domain=int((clips["domain"] == "target").sum()),
        test=len(part.clips.test_ids),
        shortest_s=float(durations.min()),  # type: ignore[arg-type]
        median_s=float(durations.median()),  # type: ignore[arg-type]
        longest_s=float(durations.max()),  # type: ignore[arg-type]
    )


def _normal_level_db(part: ResolvedJob) -> Tensor:
    """Return the mean level of each frequency over up to 64 training clips, spread over all of them."""
    ids = part.clips.training_ids
    chosen = ids[np.linspace(0, len(ids) - 1, min(len(ids), _LEVEL_CLIPS)).astype(int)]
    shard = feature_store.waveforms(part.data, part.machine_type)
    return mean_level_db([shard.clip(int(clip_id)) for clip_id in chosen])
