"""A submission to DCASE Challenge Task 2 from stored scores: CSVs, meta information, one zip.

Idea: all that is written comes from the job store and from what systems say of themselves. What the platform
cannot know, such as the authors, is left null for the team to fill in.

Layout: ``<folder>/<team>/<label>/`` holds ``anomaly_score_*.csv``, ``decision_result_*.csv`` and
``<label>.meta.yaml`` of a system, so that ``<folder>`` is what the organizers' evaluator calls ``teams``.
``<folder>/<team>.zip`` is for the challenge: the same folders under ``task2/``. The challenge also wants a
technical report in it. A label is ``<team>_task2_<number>``.

Sources: the submission instructions of the challenge and packages submitted to it. Keys of the meta
information differ a little between years; those written are the common ones.
"""

import csv
import dataclasses
import math
import re
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import yaml

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import (
    anomaly_scores,
    decision_threshold,
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

MOST_SYSTEMS = 4
_TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*")
_FILE_NAMES = {  # by layout of the data set; any other layout has the last
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
    """Write the submission of up to four systems and return its zip.

    Parameters
    ----------
    systems
        Names of systems whose scores are stored, the first to be submitted as number 1.
    data, store
        The data set that they scored, and where.
    team
        The team's part of the labels, usually name and institution: ``Zhang_DKU``.
    folder
        Where ``<team>/`` and ``<team>.zip`` are written; all at once, or nothing.
    seed, settings
        Of which run the scores are.
    subset
        ``"dev"`` or ``"eval"``; the evaluation clips where the data set has some if not given.
    threshold
        Method of the decision threshold, a name of ``asdbench.metrics.threshold.THRESHOLDS``.

    Raises
    ------
    InputError
        There are no or too many systems, the team's name cannot be part of a file name, scores are not
        stored, a clip has no score or one that is not finite, or the submission is there already.
    """
    names = list(dict.fromkeys(systems))
    if not 1 <= len(names) <= MOST_SYSTEMS:
        raise InputError(f"{len(names)} systems are named; the challenge takes 1 to {MOST_SYSTEMS}")
    if not _TEAM.fullmatch(team):
        raise InputError(f"{team!r} cannot be a team's name; use letters, digits and '-', such as Zhang_DKU")
    clips = _clips(data, subset)
    machine_types = sorted(clips["machine_type"].unique())
    jobs = scored_jobs(
        names, data, store, seeds=[seed], machine_types=machine_types, settings=settings or StoredRunOptions()
    )
    target, package = folder / team, folder / f"{team}.zip"
    for path in (target, package):
        if path.exists():
            raise InputError(f"{str(path)!r} is there already; remove it, or write to another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{team}.", dir=folder) as temporary:
            written = Path(temporary) / team
            for number, name in enumerate(names, start=1):
                label = f"{team}_task2_{number}"
                _write_system(
                    written / label, label, jobs[name][seed], clips, store, threshold, number=number
                )
            with replacing(package) as partial:  # the zip comes last: where it is, all is there
                _write_zip(partial, written)
                written.rename(target)
    except OSError as error:
        raise InputError(f"the submission cannot be written to {str(folder)!r} ({error})") from error
    return package


def _clips(data: DataSet, subset: str | None) -> pl.DataFrame:
    """Return the test clips that a submission covers."""
    tested = data.clips.filter(pl.col("split") == "test")
    there = set(tested["subset"])
    chosen = subset or ("eval" if "eval" in there else "dev")
    if chosen not in there:
        raise InputError(f"data set {data.name!r} has no test clips of the subset {chosen!r}; leave it out")
    return tested.filter(pl.col("subset") == chosen)


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
    folder.mkdir(parents=True)
    for machine_type, resolved in jobs.items():
        scores = anomaly_scores(resolved, store)
        threshold = decision_threshold(scores, method=method)
        wanted = clips.filter(pl.col("machine_type") == machine_type)
        tested = scores.filter(pl.col("use") == "test").select("clip_id", "score")
        _write_tables(
            folder, resolved.data, machine_type, wanted.join(tested, on="clip_id", how="left"), threshold
        )
    meta = _meta(label, jobs, store, method, number=number)
    text = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)
    (folder / f"{label}.meta.yaml").write_text(text, encoding="utf-8")


def _write_tables(
    folder: Path, data: DataSet, machine_type: str, scored: pl.DataFrame, threshold: float
) -> None:
    pattern = _FILE_NAMES.get(data.layout or "", _FILE_NAMES[""])
    tables: dict[str, list[tuple[str, float]]] = {}
    for path, section, domain, score in scored.select("path", "section", "domain", "score").iter_rows():
        name = PurePosixPath(path).name
        if score is None or not math.isfinite(score):
            told = "no score" if score is None else f"the score {score}"
            raise InputError(
                f"{path} has {told}; a submission needs a finite one of every test clip, so score it anew"
            )
        place = pattern.format(kind="{kind}", machine=machine_type, section=section, domain=domain)
        tables.setdefault(place, []).append((name, score))
    for place, rows in tables.items():
        rows.sort()
        _write_csv(folder / place.format(kind="anomaly_score"), [(name, repr(score)) for name, score in rows])
        decisions = [(name, str(int(score > threshold))) for name, score in rows]
        _write_csv(folder / place.format(kind="decision_result"), decisions)


def _write_csv(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_zip(path: Path, written: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(written.rglob("*.*")):
            archive.write(file, f"task2/{file.relative_to(written).as_posix()}")


# Meta information


def _meta(
    label: str, jobs: Mapping[str, ResolvedJob], store: JobStore, method: str, *, number: int
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
                "data_augmentation": _joined(of for part in first.parts for of in part.plan.augmentations),
                "front_end": None,
                "acoustic_features": _joined(_features(part) for part in first.parts),
                "embeddings": None,
                "machine_learning_method": _joined(_described(part) for part in first.parts),
                "ensemble_method_subsystem_count": len(members) or None,
                "decision_making": f"0.9 quantile of the scores of held-out normal clips ({method})",
                "external_data_usage": first.job.pseudo_anomaly_data,
            },
            "complexity": _complexity(jobs, store),
            "source_code": None,
        },
        "results": {"development_dataset": _development_results(first, store) or None},
    }


def _joined(words: Any) -> str | None:
    return ", ".join(dict.fromkeys(words)) or None


def _features(part: ResolvedJob) -> str:
    mel = part.input_spec.mel
    told = f"log-mel energies ({mel.n_mels} bands, window {mel.n_fft}, hop {mel.hop_samples} samples)"
    return f"{told}, waveform" if part.input_spec.waveform else told


def _described(part: ResolvedJob) -> str:
    """Return the first sentence that a system's module says of itself."""
    text = sys.modules[part.configured.system.__module__].__doc__ or part.job.system
    return " ".join(text.strip().partition("\n\n")[0].split()).rstrip(".")


def _complexity(jobs: Mapping[str, ResolvedJob], store: JobStore) -> dict[str, int]:
    """Return the size of the largest model and the multiply-accumulates of a clip, over machine types."""
    parameters, macs = [], []
    for resolved in jobs.values():
        trainings = training_records(resolved, store).values()
        scorings = [store.scoring_record(part.scoring_key) for part in resolved.parts]
        parameters.append(sum(training["parameters"] for training in trainings))
        macs.append(sum(scoring["macs_per_clip"] for scoring in scorings))
    return {"total_parameters": max(parameters), "MACS": max(macs)}


def _development_results(first: ResolvedJob, store: JobStore) -> dict[str, dict[str, float]]:
    """Return the metrics of machine types with labeled dev clips, in percent, of those that are scored."""
    results: dict[str, dict[str, float]] = {}
    for machine_type in labeled_types(first.data, subset="dev"):
        job = dataclasses.replace(first.job, machine_type=machine_type)
        resolved = ResolvedJob(job, first.configured, first.data)
        if store.is_scored(resolved):
            sections = judge_sections(resolved, store, subset="dev")
            means = section_means(sections.values(), rule=first.data.rule)
            results[machine_type] = {
                name: round(100 * means[name], 2) for name in first.data.rule.metrics if name in means
            }
    return results
