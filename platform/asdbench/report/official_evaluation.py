"""Evaluation of a folder of submission CSVs with the figures of the organizers' evaluator, to the last digit.

Idea: a submission consists of two CSV files per machine type and section,
``anomaly_score_<type>_section_<NN>_test.csv`` and ``decision_result_<type>_section_<NN>_test.csv``, without
header, one row (file name, value) per test clip. With the labels and domains of the clips they suffice for
all figures; no recording is read. Figures and their names are those of the evaluator:

- AUC and pAUC follow `asdbench.metrics.official.Rule`. Before a harmonic mean, values below the float epsilon
  are raised to it. The official score is the harmonic mean of all AUC and pAUC values.
- Precision, recall and F1 of a domain use the decisions on the clips of that domain only.
- ``means`` are over types, sections and both domains. The pAUC, which has one value for both domains, enters
  the mean of each domain.
- ``official_score_ci95`` is the mean of the half-widths of AUC and pAUC, with the clips of all types pooled.
  It is not an interval of the official score (see `asdbench.metrics.intervals`).

Like the evaluator, this module accepts rows in any order, the file names with labels and attributes that the
ground truth lists next to the anonymous ones, the file names of the official baseline
(``..._seed13711_id(0_)_Eval.csv``), those of challenges that had one file per domain or machine id, and
decisions written as decimals, which are truncated.

Source: nttcslab/dcase2023_task2_evaluator; the evaluators of later challenges differ in machine types only.

Departures: names are checked, whereas the evaluator sorts both lists and pairs them by position. The
evaluator of `asdbench.metrics.IN_DOMAIN` sums machine type by machine type, so the last digit of a mean may
differ. Its successor splits the columns of a machine type with several sections in the wrong place for the
source and target means of that type; here they are the means of the domain. The evaluator prints no score for
`asdbench.metrics.WITHOUT_DOMAINS`; here it is the mean over AUC and pAUC.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from scipy import stats

from asdbench.data.sets import catalog
from asdbench.data.sets.challenges import CHALLENGES, rule_of
from asdbench.data.sets.ground_truth import read_ground_truth
from asdbench.engine.evaluation import labeled_clips
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace
from asdbench.metrics.chance import aucs_far_below_chance
from asdbench.metrics.evaluator import jackknife, roc_area
from asdbench.metrics.official import DOMAINS, OFFICIAL, Rule, metric_clips
from asdbench.report.chance_notes import LowAuc, low_auc_notes
from asdbench.report.formatting import MISSING, print_message, print_note
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, numeric, to_json

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
    """The ground truth of the test clips of one section.

    Attributes
    ----------
    machine_type, section
        The machine type, and the section number as file names contain it (``"00"``).
    clips
        The file names of the clips, sorted.
    anomalous, target : shape (clip,), bool
        True for an anomaly; True for the target domain.
    subset
        The part of the data set that a submission covers completely.
    aliases
        Other names of clips, each mapped to the file name.
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
        """The machine type and section, for messages."""
        return f"{self.machine_type} section {self.section}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of a submission.

    Attributes
    ----------
    rule
        The rule of the official score.
    figures
        ``official_score``, ``arithmetic_mean`` (of the same values), ``official_score_ci95``, ``auc_ci95``,
        ``pauc_ci95``, ``auc_jackknife``, ``pauc_jackknife``; ``means``: by kind and quantity; and by machine
        type under ``machine_types`` its ``sections``, by number and figure, and its ``means``.
    notes
        Irregularities of the files, for the user to check.
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
        The name of a registered data set or, with ``ground_truth``, of a challenge.
    ground_truth
        The folder of the organizers' evaluator, to read instead of the labels of a registered data set.

    Raises
    ------
    InputError
        The data set does not exist, none of its labels is known, or the ground truth is damaged.
    """
    if ground_truth is not None:
        if data not in CHALLENGES and data not in catalog.names(workspace):
            raise unknown_name("data set or challenge", data, {*CHALLENGES, *catalog.names(workspace)})
        rule = rule_of(data) if data in CHALLENGES else catalog.load(workspace, data).rule
        table = read_ground_truth(ground_truth).with_columns(subset=None)
        return _true_sections(table), rule
    registered = catalog.load(workspace, data)
    table = labeled_clips(registered).with_columns(file=pl.col("path").str.split("/").list.last())
    if table.is_empty():
        raise InputError(
            f"no test clip of data set {data!r} has a known label; give the folder of the organizers' "
            f"evaluator with --ground-truth"
        )
    return _true_sections(table.with_columns(renamed=None)), registered.rule


def _true_sections(table: pl.DataFrame) -> list[TrueSection]:
    """Return the sections of a table of clips, one per subset, machine type and section."""
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
    """Evaluate the submission CSVs in ``folder``.

    Parameters
    ----------
    folder
        A folder of score and decision CSVs; other files in it are ignored.
    truth
        Sections whose labels are known. A submission covers all sections of a subset.
    rule
        The rule of the official score.

    Raises
    ------
    InputError
        A file, a clip or a decision is missing, a clip is unknown or listed twice, a value is not a finite
        number, or the clips of a section do not suffice for a metric.
    """
    sections = _covered(folder, sorted(truth, key=lambda section: (section.machine_type, section.section)))
    rows: dict[str, dict[str, dict[str, float]]] = {}
    pooled: tuple[list[FloatArray], list[BoolArray]] = ([], [])
    notes: list[str] = []
    lowest: list[LowAuc] = []
    for section in sections:
        scores = _values(folder, section, "anomaly_score", _score)
        decisions = None
        if rule.domains:
            values = _values(folder, section, "decision_result", float)
            decisions = _decisions(values, section, notes)
        try:
            row = _section_figures(section, scores, decisions, rule=rule)
        except InputError as error:
            raise InputError(f"{section.name}: {error}") from error
        rows.setdefault(section.machine_type, {})[section.section] = row
        low = aucs_far_below_chance(row, section.anomalous, section.target, rule=rule)
        lowest += [LowAuc(name, row[name], section.name) for name in low]
        pooled[0].append(scores)
        pooled[1].append(section.anomalous)
    all_rows = [row for by_section in rows.values() for row in by_section.values()]
    columns = [[row[name] for row in all_rows if name in row] for name in rule.metrics]
    metrics = np.array([value for column in columns for value in column])
    figures: dict[str, Any] = {
        "official_score": _mean(metrics, rule.mean, rule),
        "arithmetic_mean": _mean(metrics, "arithmetic", rule),
        **_pooled_figures(np.concatenate(pooled[0]), np.concatenate(pooled[1]), rule=rule),
        "means": _kinds_of_means(all_rows, rule, by_domain=True),
        "machine_types": {
            machine_type: {"sections": by_section, "means": _kinds_of_means(list(by_section.values()), rule)}
            for machine_type, by_section in rows.items()
        },
    }
    return Evaluation(rule, figures, (*notes, *low_auc_notes(lowest)))


def submitted_scores(folder: Path, truth: Iterable[TrueSection]) -> list[tuple[TrueSection, FloatArray]]:
    """Return the scores of each section in a folder of score CSVs, in the order of the section's clips.

    Decisions are not read. Raises as `evaluate_folder` does.
    """
    ordered = sorted(truth, key=lambda section: (section.machine_type, section.section))
    return [
        (section, _values(folder, section, "anomaly_score", _score)) for section in _covered(folder, ordered)
    ]


def render(
    evaluation: Evaluation, *, format: Format, title: str, console: Console | None = None
) -> str | None:
    """Print the figures and return ``None``, or return them as JSON or as the CSV file of the evaluator.

    Raises :class:`InputError` for an unknown format.
    """
    if format == "json":
        return to_json(evaluation.figures)
    if format == "csv":
        return _csv(evaluation)
    if format != "table":
        raise unknown_name("format", format, get_args(Format))
    _print_tables(evaluation, title, console or Console())
    return None


# Reading


def _covered(folder: Path, sections: Sequence[TrueSection]) -> list[TrueSection]:
    """Return the sections of all subsets that the folder has a score file for."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder; give a folder with files anomaly_score_*.csv")
    covered = {
        section.subset for section in sections if _files(folder, section, "anomaly_score", required=False)
    }
    if not covered:
        inner = sorted({path.parent for path in folder.rglob("anomaly_score_*.csv")} - {folder})
        if inner:
            cure = f"did you mean {str(inner[0])!r}?"
        else:
            known = sorted({section.machine_type for section in sections})
            cure = f"machine types with known labels: {', '.join(known) or 'none'}"
        raise InputError(
            f"{str(folder)!r} contains no score file of a machine type with known labels, such as "
            f"anomaly_score_fan_section_00_test.csv; {cure}"
        )
    return [section for section in sections if section.subset in covered]


def _files(folder: Path, section: TrueSection, kind: str, *, required: bool = True) -> list[Path]:
    """Return the files of one kind for a section, by the first naming scheme that matches any."""
    for scheme in _FILES:
        pattern = scheme.format(
            kind=kind, machine=_escaped(section.machine_type), section=_escaped(section.section)
        )
        paths = sorted(folder.glob(pattern))
        if "_seed" in scheme and len(paths) > 1:
            raise InputError(
                f"{str(folder)!r} contains {len(paths)} files {pattern}, such as {paths[0].name} and "
                f"{paths[1].name}; keep the files of one seed"
            )
        if paths:
            return paths
    if required:
        name = _FILES[0].format(kind=kind, machine=section.machine_type, section=section.section)
        raise InputError(f"{str(folder)!r} has no {name}; a submission needs one for each section")
    return []


def _escaped(text: str) -> str:
    """Return a glob pattern that matches a text literally."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _values(
    folder: Path, section: TrueSection, kind: str, number: Callable[[str], float]
) -> npt.NDArray[np.float64]:
    """Return the value of each clip of a section, in the order of the clips."""
    values: dict[str, float] = {}
    known = set(section.clips)
    paths = _files(folder, section, kind)
    for path in paths:
        for line, name, text in _rows(path):
            clip = section.aliases.get(name, name)
            location = f"{str(path)!r} line {line}"
            if clip not in known:
                raise InputError(f"{location}: {name!r} is not a test clip of {section.name}; remove the row")
            if clip in values:
                raise InputError(f"{location}: {name!r} already has a row; give one row per clip")
            try:
                values[clip] = number(text)
            except (ValueError, OverflowError):
                raise InputError(
                    f"{location}: {text!r} is not a finite number; every clip needs one"
                ) from None
    missing = [clip for clip in section.clips if clip not in values]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{str(paths[0])!r} has no row for {missing[0]!r}{more}; every test clip needs one")
    return np.array([values[clip] for clip in section.clips])


def _rows(path: Path) -> Iterable[tuple[int, str, str]]:
    """Yield line number, name and value of each row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:  # a mark that spreadsheets write is no text
            reader = csv.reader(text)
            for fields in reader:
                if not fields:
                    continue
                if len(fields) < 2:
                    raise InputError(
                        f"{str(path)!r} line {reader.line_num} has no value; a row is a file name and a value"
                    )
                yield reader.line_num, fields[0], fields[1]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(path)!r} cannot be read as CSV text ({error})") from error


def _score(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _decisions(values: FloatArray, section: TrueSection, notes: list[str]) -> BoolArray:
    """Return decisions as the evaluator reads them: truncated to 0 or 1."""
    truncated = np.trunc(values)
    invalid = ~np.isin(truncated, (0, 1))
    if invalid.any():
        clip = section.clips[int(np.flatnonzero(invalid)[0])]
        raise InputError(
            f"{section.name}: the decision for {clip!r} is {values[invalid][0]:g}; "
            f"give 0 (normal) or 1 (anomaly)"
        )
    n_fractions = int(np.count_nonzero(truncated != values))
    if n_fractions:
        notes.append(
            f"{section.name}: {n_fractions} decisions are not 0 or 1; like the evaluator, they are truncated"
        )
    return np.asarray(truncated == 1)


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
    by_domain = {}
    for domain, clips in zip(DOMAINS, (~section.target, section.target), strict=True):
        if clips.any():
            by_domain[domain] = _decision_figures(decisions[clips], section.anomalous[clips])
    for quantity in _QUANTITIES[2:]:
        figures |= {f"{quantity}_{domain}": values[quantity] for domain, values in by_domain.items()}
    return figures


def _decision_figures(decisions: BoolArray, anomalous: BoolArray) -> dict[str, float]:
    """Return precision, recall and F1 with the evaluator's order of operations; 0/0 is 0."""
    epsilon = np.finfo(np.float64).eps
    hits = np.count_nonzero(decisions & anomalous)
    precision = hits / max(np.count_nonzero(decisions), epsilon)
    recall = hits / max(np.count_nonzero(anomalous), epsilon)
    f1 = 2.0 * precision * recall / max(precision + recall, epsilon)
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
    rows: Sequence[Mapping[str, float]], rule: Rule, *, by_domain: bool = False
) -> dict[str, dict[str, float]]:
    """Return the means of each quantity over sections, by kind: over both domains, and of each domain.

    The evaluator gives arithmetic means of a domain over all machine types only (``by_domain``).
    """
    means: dict[str, dict[str, float]] = {}
    for quantity in _QUANTITIES:
        names = [name for name in rule.metrics if name.partition("_")[0] == quantity]
        if quantity not in ("auc", "pauc"):
            names = [f"{quantity}_{domain}" for domain in DOMAINS]
        # A quantity with one value for both domains, such as the pAUC, enters the mean of each.
        halves = [[row[name] for row in rows if name in row] for name in (names[0], names[-1])]
        values = {"": halves[0] + halves[1]}
        if rule.domains:
            values |= {f"{domain}_": half for domain, half in zip(DOMAINS, halves, strict=True)}
        for prefix, averaged in values.items():
            for kind in ("arithmetic", "harmonic"):
                if averaged and (by_domain or not prefix or kind == "harmonic"):
                    means.setdefault(prefix + kind, {})[quantity] = _mean(np.array(averaged), kind, rule)
    return means


def _mean(values: FloatArray, kind: str, rule: Rule) -> float:
    if kind == "arithmetic":
        return float(np.mean(values))
    return float(stats.hmean(np.maximum(values, rule.floor)))


# Text


def _label(name: str) -> str:
    quantity, _, domain = name.partition("_")
    return f"{_LABELS[quantity]} ({domain})" if domain else _LABELS[quantity]


def _names(evaluation: Evaluation) -> list[str]:
    """Return the names of the figures that any section has, in the order of the columns."""
    names = dict.fromkeys(
        name
        for of_type in evaluation.figures["machine_types"].values()
        for row in of_type["sections"].values()
        for name in row
    )
    return list(names)


def _csv(evaluation: Evaluation) -> str:
    """Return the result file of the evaluator."""
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

    def write_means(means: Mapping[str, Mapping[str, float]], suffix: str) -> None:
        writer.writerow(header)
        for kind, label in kinds.items():
            if kind in means:
                writer.writerow([label + suffix, "", *(means[kind].get(q, "") for q in quantities)])
        writer.writerow([])

    for machine_type, of_type in figures["machine_types"].items():
        writer.writerow([machine_type])
        writer.writerow(["section", *map(_label, names)])
        for section, row in of_type["sections"].items():
            writer.writerow([section, *(row.get(name, "") for name in names)])
        write_means(of_type["means"], "")
    write_means(figures["means"], " over all machine types, sections, and domains")
    writer.writerow(["official score", "", figures["official_score"]])
    writer.writerow(["official score ci95", "", figures["official_score_ci95"]])
    writer.writerow([])
    return text.getvalue()


def _print_tables(evaluation: Evaluation, title: str, console: Console) -> None:
    figures = evaluation.figures
    for part in (_sections_table(evaluation, title), "", _means_table(figures["means"]), ""):
        console.print(part)
    for name in ("official_score", "arithmetic_mean", "official_score_ci95"):
        print_message(console, f"{name.replace('_', ' ')}: {figures[name]!r}")
    for note in evaluation.notes:
        print_note(console, note)


def _sections_table(evaluation: Evaluation, title: str) -> DisplayTable:
    names = [name for name in _names(evaluation) if name != "auc_all"]
    columns = [Column("machine type")]
    for name in names:
        quantity, _, domain = name.partition("_")
        header = f"{_SHORT.get(quantity, _LABELS[quantity])}\n{domain}"
        columns.append(Column(header, "right", no_wrap=True))
    rows = []
    for machine_type, of_type in evaluation.figures["machine_types"].items():
        for section, figures in of_type["sections"].items():
            name = f"{machine_type} {section}" if len(of_type["sections"]) > 1 else machine_type
            rows.append(DisplayRow([name, *_cells(figures, names)]))
    return DisplayTable(columns, rows, title, is_ruled=False)


def _means_table(means: Mapping[str, Mapping[str, float]]) -> DisplayTable:
    quantities = list(means["arithmetic"])
    columns = [Column("mean"), *numeric(*(_LABELS[quantity] for quantity in quantities))]
    rows = [
        DisplayRow([kind.replace("_", " "), *_cells(of_kind, quantities)]) for kind, of_kind in means.items()
    ]
    return DisplayTable(columns, rows, is_ruled=False)


def _cells(figures: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{figures[name]:.4f}" if name in figures else MISSING for name in names]
