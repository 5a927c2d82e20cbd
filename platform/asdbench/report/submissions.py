"""Submissions to DCASE Challenge Task 2, written from stored scores: CSVs, metadata and one zip.

Idea: the content comes from the job store and from the systems' own documentation. What the platform cannot
know, such as the authors, is left null for the team to fill in.

Layout: ``<folder>/<team>/<label>/`` holds ``anomaly_score_*.csv``, ``decision_result_*.csv`` and
``<label>.meta.yaml`` of a system, so that ``<folder>`` is what the organizers' evaluator calls ``teams``.
``<folder>/<team>.zip`` is the package to submit: the same folders under ``task2/``. The challenge also
requires a technical report in it. A label is ``<team>_task2_<number>``.

Sources: the submission instructions of the challenge, and packages submitted to it. The metadata keys differ
slightly between years; the common ones are written.
"""

import csv
import dataclasses
import math
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import yaml

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.decision_thresholds import decision_thresholds, uncalibrated_threshold
from asdbench.engine.evaluation import (
    anomaly_scores,
    judge_sections,
    labeled_types,
    training_records,
)
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_metrics import section_means
from asdbench.errors import InputError
from asdbench.io.files import replacing
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs
from asdbench.spec import SAMPLE_RATE_HZ

MAX_SYSTEMS = 4
_TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*")
_FILE_NAMES = {  # by layout of the data set; "" is for all other layouts
    "machine-ids": "{kind}_{machine}_id_{section}.csv",
    "domain-folders": "{kind}_{machine}_section_{section}_{domain}_test.csv",
    "": "{kind}_{machine}_section_{section}_test.csv",
}


def write_submission(
    systems: Sequence[str],
    data: DataSet,
    store: JobStore,
    *,
    team: str,
    folder: Path,
    seed: int = 0,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    settings: StoredRunOptions | None = None,
) -> Path:
    """Write the submission of up to four systems and return the path of its zip.

    Parameters
    ----------
    systems
        Names of systems whose scores are stored; the first is submitted as number 1.
    data, store
        The data set that they scored, and the store that holds the scores.
    team
        The first part of the labels, usually name and institution: ``Zhang_DKU``.
    folder
        Where ``<team>/`` and ``<team>.zip`` are written, either completely or not at all.
    seed, settings
        The run whose scores to submit.
    subset
        ``"dev"`` or ``"eval"``; by default eval if the data set has evaluation clips, else dev.
    threshold
        Method of the decision threshold, a key of ``asdbench.metrics.threshold.THRESHOLDS``.

    Raises
    ------
    InputError
        There are no or too many systems, the team's name is invalid in a file name, scores are not stored, a
        clip has no score or one that is not finite, or the submission already exists.
    """
    names = list(dict.fromkeys(systems))
    if not 1 <= len(names) <= MAX_SYSTEMS:
        raise InputError(f"{len(names)} systems are given; the challenge accepts 1 to {MAX_SYSTEMS}")
    if not _TEAM.fullmatch(team):
        raise InputError(f"{team!r} is not a valid team name; use letters, digits and '-', as in Zhang_DKU")
    clips = subset_clips(data, subset)
    machine_types = sorted(clips["machine_type"].unique())
    jobs = scored_jobs(
        names, data, store, seeds=[seed], machine_types=machine_types, settings=settings or StoredRunOptions()
    )
    target, package = folder / team, folder / f"{team}.zip"
    for path in (target, package):
        if path.exists():
            raise InputError(
                f"{str(path)!r} already exists; remove it, or choose another folder with --output"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{team}.", dir=folder) as temporary:
            written = Path(temporary) / team
            for number, name in enumerate(names, start=1):
                label = f"{team}_task2_{number}"
                _write_system(
                    written / label, label, jobs[name][seed], clips, store, threshold, number=number
                )
            with replacing(package) as partial:  # last: if the zip exists, the submission is complete
                _write_zip(partial, written)
                written.rename(target)
    except OSError as error:
        raise InputError(f"the submission cannot be written to {str(folder)!r} ({error})") from error
    return package


def subset_clips(data: DataSet, subset: str | None) -> pl.DataFrame:
    """Return the test clips that a submission covers."""
    test_clips = data.clips.filter(pl.col("split") == "test")
    available = set(test_clips["subset"])
    chosen = subset or ("eval" if "eval" in available else "dev")
    if chosen not in available:
        raise InputError(
            f"data set {data.name!r} has no test clips of the subset {chosen!r}; "
            f"it has: {', '.join(sorted(available)) or 'none'}"
        )
    return test_clips.filter(pl.col("subset") == chosen)


def _write_system(
    folder: Path,
    label: str,
    jobs: Mapping[str, ResolvedJob],
    clips: pl.DataFrame,
    store: JobStore,
    method: str,
    *,
    number: int,
) -> None:
    """Write the files of a system; a type with too few normal clips gets the decisions that these suggest."""
    folder.mkdir(parents=True)
    shortfalls = {
        machine_type: write_type(folder, resolved, clips, store, method=method)
        for machine_type, resolved in jobs.items()
    }
    uncalibrated = [f"{machine_type} ({why})" for machine_type, why in shortfalls.items() if why]
    metadata = _metadata(label, jobs, store, _decision_making(method, uncalibrated), number=number)
    text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    (folder / f"{label}.meta.yaml").write_text(text, encoding="utf-8")


def write_type(
    folder: Path, resolved: ResolvedJob, clips: pl.DataFrame, store: JobStore, *, method: str
) -> str | None:
    """Write the score and decision files of a scored job for some test clips.

    Returns why there are too few normal clips for a decision threshold, if so: decisions are then what these
    suggest. Raises :class:`InputError` if a clip has no score, or one that is not finite.
    """
    scores = anomaly_scores(resolved, store)
    threshold = uncalibrated_threshold(resolved, scores, method=method)
    tested = scores.filter(pl.col("use") == "test").select("clip_id", "score")
    of_type = clips.filter(pl.col("machine_type") == resolved.machine_type)
    scored = of_type.join(tested, on="clip_id", how="left")
    _write_tables(folder, resolved.data, resolved.machine_type, scored, threshold)
    shortfall: str | None = decision_thresholds(resolved, scores)[method].shortfall
    return shortfall


def _write_tables(
    folder: Path, data: DataSet, machine_type: str, scored: pl.DataFrame, threshold: float
) -> None:
    pattern = _FILE_NAMES.get(data.layout or "", _FILE_NAMES[""])
    tables: dict[str, list[tuple[str, float]]] = {}
    for path, section, domain, score in scored.select("path", "section", "domain", "score").iter_rows():
        name = PurePosixPath(path).name
        if score is None or not math.isfinite(score):
            problem = "no score" if score is None else f"the score {score}"
            raise InputError(
                f"{path} has {problem}; a submission needs a finite score for every test clip, so choose "
                f"another system, seed or settings"
            )
        file_name = pattern.format(kind="{kind}", machine=machine_type, section=section, domain=domain)
        tables.setdefault(file_name, []).append((name, score))
    for file_name, rows in tables.items():
        rows.sort()
        scores = [(name, repr(score)) for name, score in rows]
        _write_csv(folder / file_name.format(kind="anomaly_score"), scores)
        decisions = [(name, str(int(score > threshold))) for name, score in rows]
        _write_csv(folder / file_name.format(kind="decision_result"), decisions)


def _write_csv(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_zip(path: Path, written: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(written.rglob("*.*")):
            archive.write(file, f"task2/{file.relative_to(written).as_posix()}")


# Metadata


def _decision_making(method: str, uncalibrated: Sequence[str]) -> str:
    sentence = f"0.9 quantile of the scores of held-out normal clips ({method})"
    return f"{sentence}; not calibrated for {', '.join(uncalibrated)}" if uncalibrated else sentence


def _metadata(
    label: str, jobs: Mapping[str, ResolvedJob], store: JobStore, decision_making: str, *, number: int
) -> dict[str, Any]:
    first = next(iter(jobs.values()))
    name = first.job.system
    surname, _, institution = label.partition("_task2_")[0].partition("_")
    letters = "".join(letter for letter in name if letter.isalpha())
    members = [member.job.system for member in first.members]
    return {
        "submission": {
            "label": label,
            "name": name,
            "abbreviation": f"{letters[:9]}{number}",
            "authors": [
                {
                    "firstname": None,
                    "lastname": surname,
                    "email": None,
                    "corresponding": True,
                    "affiliation": {
                        "abbreviation": institution or None,
                        "institute": None,
                        "location": None,
                    },
                }
            ],
        },
        "system": {
            "description": {
                "input_sampling_rate": f"{SAMPLE_RATE_HZ // 1000}kHz",
                "data_augmentation": _joined(
                    name for part in first.parts for name in part.plan.augmentations
                ),
                "front_end": None,
                "acoustic_features": _joined(_features(part) for part in first.parts),
                "embeddings": None,
                "machine_learning_method": _joined(_description(part) for part in first.parts),
                "ensemble_method_subsystem_count": len(members) or None,
                "decision_making": decision_making,
                "external_data_usage": first.job.pseudo_anomaly_data,
            },
            "complexity": _complexity(jobs, store),
            "source_code": None,
        },
        "results": {"development_dataset": _development_results(first, store) or None},
    }


def _joined(words: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(words)) or None


def _features(part: ResolvedJob) -> str:
    mel = part.input_spec.mel
    features = f"log-mel energies ({mel.n_mels} bands, window {mel.n_fft}, hop {mel.hop_samples} samples)"
    return f"{features}, waveform" if part.input_spec.waveform else features


def _description(part: ResolvedJob) -> str:
    """Return the first paragraph of the documentation of a system's module."""
    text = sys.modules[part.configured.system.__module__].__doc__ or part.job.system
    return " ".join(text.strip().partition("\n\n")[0].split()).rstrip(".")


def _complexity(jobs: Mapping[str, ResolvedJob], store: JobStore) -> dict[str, int]:
    """Return the maxima over machine types of the parameters and of the multiply-accumulates per clip."""
    parameters, macs = [], []
    for resolved in jobs.values():
        trainings = training_records(resolved, store).values()
        scorings = [store.scoring_record(key) for key in {part.scoring_key for part in resolved.parts}]
        parameters.append(sum(training.parameters for training in trainings))
        macs.append(sum(scoring.macs_per_clip for scoring in scorings))
    return {"total_parameters": max(parameters), "MACS": max(macs)}


def _development_results(first: ResolvedJob, store: JobStore) -> dict[str, dict[str, float]]:
    """Return the metrics, in percent, of the scored machine types that have labeled dev clips."""
    results: dict[str, dict[str, float]] = {}
    snapshot = store.snapshot()
    for machine_type in labeled_types(first.data, subset="dev"):
        resolved = dataclasses.replace(first, machine_type=machine_type)
        if snapshot.is_scored(resolved):
            sections = judge_sections(resolved, store, subset="dev")
            means = section_means(sections.values(), rule=first.data.rule)
            results[machine_type] = {
                name: round(100 * means[name], 2) for name in first.data.rule.metrics if name in means
            }
    return results
