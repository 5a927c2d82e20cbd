"""What the organizers' evaluator says about a folder of submission CSVs: every figure, to the last digit.

Idea: a submission is two CSVs for each machine type and section,
``anomaly_score_<type>_section_<NN>_test.csv`` and ``decision_result_<type>_section_<NN>_test.csv``, without
header, a row (file name, value) a test clip. With labels and domains of the clips that is all there is to
judge; no recording is read. Figures and their names are the evaluator's:

- AUC and pAUC as `asdbench.metrics.official.Rule` counts them, values below the float epsilon raised to it
  before a harmonic mean; the official score is the harmonic mean of all of them.
- Precision, recall and F1 of a domain: decisions of the clips of that domain alone.
- ``means``: over types, sections and both domains. The pAUC, which is one for both domains, stands in the
  mean of each domain.
- ``official_score_ci95``: the mean of the half-widths of AUC and pAUC, all clips of all types in one pool. It
  is not an interval of the official score (see `asdbench.metrics.intervals`).

Accepted as by the evaluator: rows in any order, the names with labels and attributes that the ground truth
lists beside the anonymous ones, the file names of the official baseline (``..._seed13711_id(0_)_Eval.csv``)
and those of the challenges that had a file a domain or a machine id, decisions written as decimals, which it
cuts off after the point.

Source: nttcslab/dcase2023_task2_evaluator; those of the following challenges differ in machine types alone.

Departures: names are checked; the evaluator sorts both lists and pairs them by position. The evaluator of
`asdbench.metrics.IN_DOMAIN` adds machine type by machine type, so the last digit of a mean may differ. Its
successor splits the columns of a machine type with several sections in the wrong place for the source and
target means of that type; here they are the means of the domain. The evaluator prints no score for
`asdbench.metrics.WITHOUT_DOMAINS`; here it is the mean over AUC and pAUC.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.table import Table
from scipy import stats

from asdbench.data.sets import catalog
from asdbench.data.sets.challenges import CHALLENGES, rule_of
from asdbench.data.sets.ground_truth import read_ground_truth
from asdbench.engine.evaluation import labeled_clips
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace
from asdbench.metrics.evaluator import jackknife, roc_area
from asdbench.metrics.official import DOMAINS, OFFICIAL, Rule, metric_clips

Format = Literal["table", "csv", "json"]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_QUANTITIES = ("auc", "pauc", "precision", "recall", "f1")
_LABELS = {"auc": "AUC", "pauc": "pAUC", "precision": "precision", "recall": "recall", "f1": "F1 score"}
_SHORT = {"precision": "prec.", "f1": "F1"}
_FILES = (
    "{kind}_{machine}_section_{section}_test.csv",
    "{kind}_{machine}_section_{section}_*_test.csv",
    "{kind}_{machine}_id_{section}*.csv",
    "{kind}_DCASE*T2{machine}_section_{section}_test_seed*.csv",
)


@dataclass(frozen=True, eq=False)
class TrueSection:
    """What is known of the test clips of one section.

    Attributes
    ----------
    machine_type, section
        Its machine type; its number as file names have it (``"00"``).
    clips
        The clips' file names, sorted.
    anomalous, target : shape (clip,), bool
        True for an anomaly; True for the target domain.
    subset
        The part of the data set that a submission covers as a whole.
    aliases
        Other names of clips, each with the file name.
    """

    machine_type: str
    section: str
    clips: tuple[str, ...]
    anomalous: BoolArray
    target: BoolArray
    subset: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Machine type and section, for messages."""
        return f"{self.machine_type} section {self.section}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of a submission.

    Attributes
    ----------
    rule
        How was counted.
    figures
        ``official_score``, ``arithmetic_mean`` (of the same values), ``official_score_ci95``, ``auc_ci95``,
        ``pauc_ci95``, ``auc_jackknife``, ``pauc_jackknife``; ``means``: by kind and quantity; and by machine
        type under ``machine_types`` its ``sections``, by number and figure, and its ``means``.
    notes
        What was remarkable in the files.
    """

    rule: Rule
    figures: dict[str, Any]
    notes: tuple[str, ...]


def truth_of(
    data: str, workspace: Workspace, *, ground_truth: Path | None = None
) -> tuple[list[TrueSection], Rule]:
    """Return the labeled sections of a data set or a challenge, and its rule.

    Parameters
    ----------
    data
        The name of a registered data set, which has a rule, or with ``ground_truth`` of a challenge.
    ground_truth
        The folder of the organizers' evaluator, read instead of the labels of a registered data set.

    Raises
    ------
    InputError
        There is no such data set, no label of it is known, or the ground truth is damaged.
    """
    if ground_truth is not None:
        if data not in CHALLENGES and data not in catalog.names(workspace):
            raise unknown_name("data set or challenge", data, {*CHALLENGES, *catalog.names(workspace)})
        rule = rule_of(data) if data in CHALLENGES else catalog.load(workspace, data).rule
        table = read_ground_truth(ground_truth).with_columns(subset=None)
        return _true_sections(table), rule
    found = catalog.load(workspace, data)
    table = labeled_clips(found).with_columns(file=pl.col("path").str.split("/").list.last())
    if table.is_empty():
        raise InputError(
            f"no test clip of data set {data!r} has a known label; give --ground-truth, the folder of the "
            f"organizers' evaluator"
        )
    return _true_sections(table.with_columns(renamed=None)), found.rule


def _true_sections(table: pl.DataFrame) -> list[TrueSection]:
    """Return the sections of a table of clips, one of each subset, machine type and section."""
    sections = []
    for (machine_type, section, subset), rows in table.group_by("machine_type", "section", "subset"):
        clips = rows.sort("file")
        renamed = zip(clips["renamed"], clips["file"], strict=True)
        sections.append(
            TrueSection(
                str(machine_type),
                str(section),
                tuple(clips["file"]),
                clips["anomaly"].to_numpy(),
                (clips["domain"] == "target").fill_null(False).to_numpy(),
                None if subset is None else str(subset),
                {f"{name.removesuffix('.wav')}.wav": file for name, file in renamed if name},
            )
        )
    return sections


def evaluate_folder(folder: Path, truth: Iterable[TrueSection], *, rule: Rule = OFFICIAL) -> Evaluation:
    """Judge the submission CSVs in ``folder``.

    Parameters
    ----------
    folder
        A folder of score and decision CSVs; other files in it are not looked at.
    truth
        Sections whose labels are known. A submission covers all of them that belong to one subset.
    rule
        How to count.

    Raises
    ------
    InputError
        A file, a clip or a decision is missing, a clip is unknown or named twice, a value is not a finite
        number, or a section lacks what a metric needs.
    """
    sections = _covered(folder, sorted(truth, key=lambda section: (section.machine_type, section.section)))
    rows: dict[str, dict[str, dict[str, float]]] = {}
    pooled: tuple[list[FloatArray], list[BoolArray]] = ([], [])
    notes: list[str] = []
    for section in sections:
        scores = _values(folder, section, "anomaly_score", _score)
        decisions = None
        if rule.domains:
            told = _values(folder, section, "decision_result", float)
            decisions = _decided(told, section, notes)
        try:
            row = _section_figures(section, scores, decisions, rule=rule)
        except InputError as error:
            raise InputError(f"{section.name}: {error}") from error
        rows.setdefault(section.machine_type, {})[section.section] = row
        pooled[0].append(scores)
        pooled[1].append(section.anomalous)
    everything = [row for of in rows.values() for row in of.values()]
    columns = [[row[name] for row in everything if name in row] for name in rule.metrics]
    values = np.array([value for column in columns for value in column])
    figures: dict[str, Any] = {
        "official_score": _mean(values, rule.mean, rule),
        "arithmetic_mean": _mean(values, "arithmetic", rule),
        **_pooled_figures(np.concatenate(pooled[0]), np.concatenate(pooled[1]), rule=rule),
        "means": _kinds_of_means(everything, rule, more=True),
        "machine_types": {
            machine: {"sections": of, "means": _kinds_of_means(list(of.values()), rule)}
            for machine, of in rows.items()
        },
    }
    return Evaluation(rule, figures, tuple(notes))


def render(
    evaluation: Evaluation, *, format: Format, title: str, console: Console | None = None
) -> str | None:
    """Print a table (and return ``None``), or return the figures as JSON or as the evaluator's CSV.

    Raises :class:`InputError` for an unknown format.
    """
    if format == "json":
        return json.dumps(evaluation.figures, indent=2, allow_nan=False)
    if format == "csv":
        return _csv(evaluation)
    if format != "table":
        raise unknown_name("format", format, ("table", "csv", "json"))
    _print_table(evaluation, title, console or Console())
    return None


# Reading


def _covered(folder: Path, sections: Sequence[TrueSection]) -> list[TrueSection]:
    """Return the sections of the subsets that the folder has a score file of."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; give one with files anomaly_score_*.csv")
    there = {
        section.subset for section in sections if _files(folder, section, "anomaly_score", required=False)
    }
    if not there:
        inner = sorted({path.parent for path in folder.rglob("anomaly_score_*.csv")} - {folder})
        if inner:
            cure = f"did you mean {str(inner[0])!r}?"
        else:
            known = sorted({section.machine_type for section in sections})
            cure = f"labels are known of: {', '.join(known) or 'no machine type'}"
        raise InputError(
            f"{str(folder)!r} holds no score file of a machine type with known labels, such as "
            f"anomaly_score_fan_section_00_test.csv; {cure}"
        )
    return [section for section in sections if section.subset in there]


def _files(folder: Path, section: TrueSection, kind: str, *, required: bool = True) -> list[Path]:
    """Return the files of one kind for a section, in the first way of naming that there is."""
    for pattern in _FILES:
        wanted = pattern.format(
            kind=kind, machine=_literally(section.machine_type), section=_literally(section.section)
        )
        found = sorted(folder.glob(wanted))
        if found and "_seed" in pattern and len(found) > 1:
            raise InputError(
                f"{str(folder)!r} holds {len(found)} files {wanted}, such as {found[0].name} and "
                f"{found[1].name}; leave those of one seed there"
            )
        if found:
            return found
    if required:
        name = _FILES[0].format(kind=kind, machine=section.machine_type, section=section.section)
        raise InputError(f"{str(folder)!r} has no {name}; a submission needs one for every section")
    return []


def _literally(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _values(
    folder: Path, section: TrueSection, kind: str, number: Callable[[str], float]
) -> npt.NDArray[np.float64]:
    """Return the value of each of the section's clips, in their order."""
    found: dict[str, float] = {}
    known = set(section.clips)
    paths = _files(folder, section, kind)
    for path in paths:
        for line, name, text in _rows(path):
            clip = section.aliases.get(name, name)
            where = f"{str(path)!r} line {line}"
            if clip not in known:
                raise InputError(f"{where}: {name!r} is no test clip of {section.name}")
            if clip in found:
                raise InputError(f"{where}: {name!r} has a row already; give one row a clip")
            try:
                found[clip] = number(text)
            except (ValueError, OverflowError):
                raise InputError(f"{where}: {text!r} is not a finite number; every clip needs one") from None
    missing = [clip for clip in section.clips if clip not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{str(paths[0])!r} has no row for {missing[0]!r}{more}; every test clip needs one")
    return np.array([found[clip] for clip in section.clips])


def _rows(path: Path) -> Iterable[tuple[int, str, str]]:
    """Yield line number, name and value of each row that is not blank."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            reader = csv.reader(text)
            for fields in reader:
                if not fields:
                    continue
                if len(fields) < 2:
                    raise InputError(
                        f"{str(path)!r} line {reader.line_num} has no value; rows are: file name, value"
                    )
                yield reader.line_num, fields[0], fields[1]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(path)!r} cannot be read as CSV text ({error})") from error


def _score(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _decided(told: FloatArray, section: TrueSection, notes: list[str]) -> BoolArray:
    """Return decisions as the evaluator reads them: cut off after the point, 0 or 1."""
    cut = np.trunc(told)
    wrong = ~np.isin(cut, (0, 1))
    if wrong.any():
        clip = section.clips[int(np.flatnonzero(wrong)[0])]
        raise InputError(
            f"{section.name}: the decision for {clip!r} is {told[wrong][0]:g}; give 0 (normal) or 1 (anomaly)"
        )
    odd = int(np.count_nonzero(cut != told))
    if odd:
        notes.append(
            f"{section.name}: {odd} decisions are not 0 or 1; the evaluator cuts them off, so they count as 0"
        )
    return np.asarray(cut == 1)


# Figures


def _section_figures(
    section: TrueSection, scores: FloatArray, decisions: BoolArray | None, *, rule: Rule
) -> dict[str, float]:
    metrics = metric_clips(section.anomalous, section.target, rule=rule)
    figures = {"auc_all": roc_area(scores, section.anomalous)} if "auc" not in rule.metrics else {}
    for name, (clips, max_fpr) in metrics.items():
        figures[name] = roc_area(scores[clips], section.anomalous[clips], max_fpr=max_fpr)
    if decisions is None:
        return figures
    of_domains = {}
    for domain, clips in zip(DOMAINS, (~section.target, section.target), strict=True):
        if clips.any():
            of_domains[domain] = _decision_figures(decisions[clips], section.anomalous[clips])
    for quantity in _QUANTITIES[2:]:
        figures |= {f"{quantity}_{domain}": of[quantity] for domain, of in of_domains.items()}
    return figures


def _decision_figures(decided: BoolArray, anomalous: BoolArray) -> dict[str, float]:
    """Return precision, recall and F1 in the evaluator's order of operations; 0/0 is 0."""
    least = np.finfo(np.float64).eps
    hits = np.count_nonzero(decided & anomalous)
    precision = hits / max(np.count_nonzero(decided), least)
    recall = hits / max(np.count_nonzero(anomalous), least)
    f1 = 2.0 * precision * recall / max(precision + recall, least)
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def _pooled_figures(scores: FloatArray, anomalous: BoolArray, *, rule: Rule) -> dict[str, float]:
    auc, auc_width = jackknife(scores, anomalous)
    pauc, pauc_width = jackknife(scores, anomalous, max_fpr=rule.max_fpr)
    return {
        "official_score_ci95": float(np.mean([auc_width, pauc_width])),
        "auc_ci95": auc_width,
        "pauc_ci95": pauc_width,
        "auc_jackknife": auc,
        "pauc_jackknife": pauc,
    }


def _kinds_of_means(
    rows: Sequence[Mapping[str, float]], rule: Rule, *, more: bool = False
) -> dict[str, dict[str, float]]:
    """Return the means over sections of each quantity, by kind: over both domains and of each of them."""
    means: dict[str, dict[str, float]] = {}
    for quantity in _QUANTITIES:
        names = [name for name in rule.metrics if name.partition("_")[0] == quantity]
        if quantity not in ("auc", "pauc"):
            names = [f"{quantity}_{domain}" for domain in DOMAINS]
        # What is one for both domains, as the pAUC is, counts in each.
        halves = [[row[name] for row in rows if name in row] for name in (names[0], names[-1])]
        values = {"": halves[0] + halves[1]}
        if rule.domains:
            values |= {f"{domain}_": of for domain, of in zip(DOMAINS, halves, strict=True)}
        for whose, of in values.items():
            for kind in ("arithmetic", "harmonic"):
                if of and (more or not whose or kind == "harmonic"):
                    means.setdefault(whose + kind, {})[quantity] = _mean(np.array(of), kind, rule)
    return means


def _mean(values: FloatArray, kind: str, rule: Rule) -> float:
    if kind == "arithmetic":
        return float(np.mean(values))
    return float(stats.hmean(np.maximum(values, rule.floor)))


# Text


def _label(name: str) -> str:
    quantity, _, of = name.partition("_")
    return f"{_LABELS[quantity]} ({of})" if of else _LABELS[quantity]


def _names(evaluation: Evaluation) -> list[str]:
    """Return the names of the figures that any section has, in the order of a table."""
    found = dict.fromkeys(
        name
        for machine in evaluation.figures["machine_types"].values()
        for row in machine["sections"].values()
        for name in row
    )
    return list(found)


def _csv(evaluation: Evaluation) -> str:
    """Return what the evaluator writes to its result file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures, names = evaluation.figures, _names(evaluation)
    quantities = list(figures["means"]["arithmetic"])
    header = ["", "", *(_LABELS[quantity] for quantity in quantities)]
    kinds = {
        "arithmetic": "arithmetic mean",
        "harmonic": "harmonic mean",
        "source_harmonic": "source harmonic mean",
        "target_harmonic": "target harmonic mean",
    }

    def write_means(means: Mapping[str, Mapping[str, float]], over: str) -> None:
        writer.writerow(header)
        for kind, label in kinds.items():
            if kind in means:
                writer.writerow([label + over, "", *(means[kind].get(q, "") for q in quantities)])
        writer.writerow([])

    for machine, of in figures["machine_types"].items():
        writer.writerow([machine])
        writer.writerow(["section", *map(_label, names)])
        for section, row in of["sections"].items():
            writer.writerow([section, *(row.get(name, "") for name in names)])
        write_means(of["means"], "")
    write_means(figures["means"], " over all machine types, sections, and domains")
    writer.writerow(["official score", "", figures["official_score"]])
    writer.writerow(["official score ci95", "", figures["official_score_ci95"]])
    writer.writerow([])
    return text.getvalue()


def _print_table(evaluation: Evaluation, title: str, console: Console) -> None:
    figures = evaluation.figures
    names = [name for name in _names(evaluation) if name != "auc_all"]
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        header_style="bold",
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("machine type", overflow="fold")
    for name in names:
        quantity, _, of = name.partition("_")
        table.add_column(f"{_SHORT.get(quantity, _LABELS[quantity])}\n{of}", justify="right", no_wrap=True)
    for machine, of_type in figures["machine_types"].items():
        for section, row in of_type["sections"].items():
            several = len(of_type["sections"]) > 1
            cells = [f"{row[name]:.4f}" if name in row else "–" for name in names]
            table.add_row(f"{machine} {section}" if several else machine, *cells)
    quantities = list(figures["means"]["arithmetic"])
    headers = ("mean", *(_LABELS[quantity] for quantity in quantities))
    means = Table(*headers, box=None, header_style="bold", pad_edge=False)
    for kind, of_kind in figures["means"].items():
        cells = [f"{of_kind[q]:.4f}" if q in of_kind else "–" for q in quantities]
        means.add_row(kind.replace("_", " "), *cells)
    for part in (table, "", means, ""):
        console.print(part)
    for name in ("official_score", "arithmetic_mean", "official_score_ci95"):
        console.print(f"{name.replace('_', ' ')}: {figures[name]!r}", highlight=False)
    for note in evaluation.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
