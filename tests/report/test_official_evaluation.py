import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from asdbench.errors import InputError
from asdbench.metrics import IN_DOMAIN, OFFICIAL, WITHOUT_DOMAINS
from asdbench.report.official_evaluation import TrueSection, evaluate_folder, render

EPS = np.finfo(float).eps


def true_section(rng, machine_type="fan", section="00", clips=40, subset=None):
    anomalous = np.zeros(clips, dtype=bool)
    target = np.arange(clips) % 2 == 1
    anomalous[rng.permutation(clips)[: clips // 2]] = True
    anomalous[:4] = False, False, True, True  # each domain has both
    names = tuple(f"section_{section}_{k:04d}.wav" for k in range(clips))
    return TrueSection(machine_type, section, names, anomalous, target, subset)


def write_csv(path, names, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(zip(names, values, strict=True))


def submit(folder, section, scores, decisions, order=None):
    order = range(len(section.clips)) if order is None else order
    for kind, values in (("anomaly_score", scores), ("decision_result", decisions)):
        path = folder / f"{kind}_{section.machine_type}_section_{section.section}_test.csv"
        write_csv(path, [section.clips[k] for k in order], [values[k] for k in order])


def plain_evaluator(sections, scores, decisions):
    """The figures of the organizers' evaluator, from its description, with its libraries, one by one."""
    table, pooled_true, pooled_scores = [], [], []
    for section, score, decision in zip(sections, scores, decisions, strict=True):
        truth = section.anomalous.astype(float)
        row = {"auc_all": metrics.roc_auc_score(truth, score)}
        row["pauc"] = metrics.roc_auc_score(truth, score, max_fpr=0.1)
        for name, domain in (("source", ~section.target), ("target", section.target)):
            ranked = domain | section.anomalous
            row[f"auc_{name}"] = metrics.roc_auc_score(truth[ranked], score[ranked])
            own = metrics.confusion_matrix(truth[domain], decision[domain], labels=[0, 1]).ravel()
            _, false_alarms, missed, hits = own
            precision = hits / np.maximum(hits + false_alarms, EPS)
            recall = hits / np.maximum(hits + missed, EPS)
            row[f"precision_{name}"], row[f"recall_{name}"] = precision, recall
            row[f"f1_{name}"] = 2.0 * precision * recall / np.maximum(precision + recall, EPS)
        table.append(row)
        pooled_true += list(truth)
        pooled_scores += list(score)

    def columns(rows):
        both = {q: ([r[f"{q}_source"] for r in rows], [r[f"{q}_target"] for r in rows])
                for q in ("auc", "precision", "recall", "f1")}  # fmt: skip
        both["pauc"] = ([r["pauc"] for r in rows],) * 2
        return np.array([both[q][0] + both[q][1] for q in ("auc", "pauc", "precision", "recall", "f1")])

    def means(rows):
        values, half = columns(rows), len(rows)
        of = {
            "arithmetic": np.mean(values, axis=1),
            "harmonic": scipy.stats.hmean(np.maximum(values, EPS), axis=1),
            "source_harmonic": scipy.stats.hmean(np.maximum(values[:, :half], EPS), axis=1),
            "target_harmonic": scipy.stats.hmean(np.maximum(values[:, half:], EPS), axis=1),
        }
        names = ("auc", "pauc", "precision", "recall", "f1")
        return {kind: dict(zip(names, map(float, value), strict=True)) for kind, value in of.items()}

    every = np.array([[r[name] for name in ("auc_source", "auc_target", "pauc") for r in table]])
    truth, score = np.array(pooled_true), np.array(pooled_scores)
    widths = []
    for max_fpr in (None, 0.1):
        n = len(truth)
        left = [
            metrics.roc_auc_score(np.delete(truth, i), np.delete(score, i), max_fpr=max_fpr) for i in range(n)
        ]
        spread = np.sqrt(np.sum([(value - np.mean(left)) ** 2 for value in left]) / (n * (n - 1)))
        widths.append(np.abs(scipy.stats.t.ppf((1 - 0.95) / 2, n - 1)) * spread)
    types = list(dict.fromkeys(section.machine_type for section in sections))
    return {
        "official_score": float(scipy.stats.hmean(np.maximum(every, EPS), axis=None)),
        "arithmetic_mean": float(np.mean(every)),
        "official_score_ci95": float(np.mean(widths)),
        "means": means(table),
        "machine_types": {
            machine: means([r for s, r in zip(sections, table, strict=True) if s.machine_type == machine])
            for machine in types
        },
        "rows": table,
    }


def random_scores(rng, section):
    return rng.normal(size=len(section.clips)) + 0.6 * section.anomalous


SCORES = {
    "random": random_scores,
    "tied": lambda rng, section: np.round(random_scores(rng, section)),
    "constant": lambda rng, section: np.full(len(section.clips), -3.5),
    "perfect": lambda rng, section: section.anomalous + 0.1 * rng.random(len(section.clips)),
    "inverted": lambda rng, section: -1.0 * section.anomalous - 1e-300 * rng.random(len(section.clips)),
    "one outlier": lambda rng, section: np.where(np.arange(len(section.clips)) == 0, 1e308, 1e-310),
    "neighboring floats": lambda rng, section: 1 + EPS * rng.integers(0, 4, len(section.clips)),
}
DECISIONS = {
    "some": lambda rng, section: (rng.random(len(section.clips)) < 0.4).astype(int),
    "all": lambda rng, section: np.ones(len(section.clips), dtype=int),
    "none": lambda rng, section: np.zeros(len(section.clips), dtype=int),
}


@pytest.mark.parametrize(
    ("scores", "decisions"),
    [*((scores, "some") for scores in SCORES), ("random", "all"), ("random", "none")],
)
def test_every_figure_has_every_digit_of_the_evaluators(tmp_path, scores, decisions):
    rng = np.random.default_rng(11)
    sections = [true_section(rng, name, clips=16) for name in ("3DPrinter", "ToyTank", "bandsaw")]
    values = [SCORES[scores](rng, section) for section in sections]
    decided = [DECISIONS[decisions](rng, section) for section in sections]
    for section, score, decision in zip(sections, values, decided, strict=True):
        submit(tmp_path, section, score, decision, order=rng.permutation(len(section.clips)))
    figures = evaluate_folder(tmp_path, sections[::-1]).figures
    expected = plain_evaluator(sections, values, decided)
    for name in ("official_score", "arithmetic_mean", "official_score_ci95"):
        assert figures[name] == expected[name]
    assert list(figures["machine_types"]) == list(expected["machine_types"])
    for (machine, means), row in zip(expected["machine_types"].items(), expected["rows"], strict=True):
        assert figures["machine_types"][machine]["sections"]["00"] == row
        assert figures["machine_types"][machine]["means"] == means
    assert {kind: figures["means"][kind] for kind in expected["means"]} == expected["means"]


def test_several_sections_are_averaged_by_domain(tmp_path):
    rng = np.random.default_rng(12)
    sections = [true_section(rng, "fan", number, clips=16) for number in ("03", "04", "05")]
    values = [random_scores(rng, section) for section in sections]
    decided = [DECISIONS["some"](rng, section) for section in sections]
    for section, score, decision in zip(sections, values, decided, strict=True):
        submit(tmp_path, section, score, decision)
    figures = evaluate_folder(tmp_path, sections).figures
    expected = plain_evaluator(sections, values, decided)
    assert figures["official_score"] == expected["official_score"]
    assert figures["machine_types"]["fan"]["means"] == expected["machine_types"]["fan"]
    assert list(figures["machine_types"]["fan"]["sections"]) == ["03", "04", "05"]


def test_the_csv_is_the_evaluators_result_file(tmp_path):
    rng = np.random.default_rng(13)
    section = true_section(rng, "ToyDrone")
    submit(tmp_path, section, random_scores(rng, section), DECISIONS["some"](rng, section))
    evaluation = evaluate_folder(tmp_path, [section])
    text = render(evaluation, format="csv", title="")
    lines = text.split("\n")
    assert lines[0] == "ToyDrone"
    assert lines[1] == (
        "section,AUC (all),AUC (source),AUC (target),pAUC,precision (source),precision (target),"
        "recall (source),recall (target),F1 score (source),F1 score (target)"
    )
    row = evaluation.figures["machine_types"]["ToyDrone"]["sections"]["00"]
    assert lines[2].split(",")[:2] == ["00", str(row["auc_all"])]
    assert lines[3] == ",,AUC,pAUC,precision,recall,F1 score"
    assert [line.partition(",")[0] for line in lines[4:8]] == [
        "arithmetic mean",
        "harmonic mean",
        "source harmonic mean",
        "target harmonic mean",
    ]
    assert lines[8] == ""
    assert lines[10].startswith('"arithmetic mean over all machine types, sections, and domains",,')
    assert lines[-5:] == [
        "",
        f"official score,,{evaluation.figures['official_score']!r}",
        f"official score ci95,,{evaluation.figures['official_score_ci95']!r}",
        "",
        "",
    ]
    assert json.loads(render(evaluation, format="json", title="")) == evaluation.figures
    with pytest.raises(InputError, match="no format 'jsno'; did you mean 'json'"):
        render(evaluation, format="jsno", title="")


def test_the_table_shows_the_score_in_full(tmp_path, capsys):
    rng = np.random.default_rng(14)
    section = true_section(rng, "ToyDrone")
    submit(tmp_path, section, random_scores(rng, section), DECISIONS["some"](rng, section))
    evaluation = evaluate_folder(tmp_path, [section])
    assert render(evaluation, format="table", title="t") is None
    shown = capsys.readouterr().out
    assert f"official score: {evaluation.figures['official_score']!r}" in shown
    assert "ToyDrone" in shown
    assert f"{evaluation.figures['means']['harmonic']['f1']:.4f}" in shown


def test_names_with_labels_and_the_baselines_file_names_are_read(tmp_path):
    rng = np.random.default_rng(15)
    plain = true_section(rng, "fan")
    aliases = {f"section_00_source_test_normal_{k:04d}_vel_1.wav": name for k, name in enumerate(plain.clips)}
    section = TrueSection(
        "fan", "00", plain.clips, plain.anomalous, plain.target, aliases=dict(list(aliases.items())[::2])
    )
    scores, decisions = random_scores(rng, section), DECISIONS["some"](rng, section)
    submit(tmp_path / "plain", plain, scores, decisions)
    named = list(plain.clips)
    named[::2] = list(aliases)[::2]
    for kind, values in (("anomaly_score", scores), ("decision_result", decisions)):
        name = f"{kind}_DCASE2023T2fan_section_00_test_seed13711_id(0_)_Eval.csv"
        write_csv(tmp_path / "baseline" / name, named, values)
    of_baseline = evaluate_folder(tmp_path / "baseline", [section]).figures
    assert of_baseline == evaluate_folder(tmp_path / "plain", [section]).figures
    for kind in ("anomaly_score", "decision_result"):
        other = tmp_path / "baseline" / f"{kind}_DCASE2023T2fan_section_00_test_seed2_id(0_)_Eval.csv"
        write_csv(other, named, scores)
    with pytest.raises(InputError, match=r"contains 2 files .* keep the files of one seed"):
        evaluate_folder(tmp_path / "baseline", [section])


def test_a_file_a_domain_counts_in_its_domain(tmp_path):
    rng = np.random.default_rng(16)
    section = true_section(rng, "fan", "03")
    scores, decisions = random_scores(rng, section), DECISIONS["some"](rng, section)
    for kind, values in (("anomaly_score", scores), ("decision_result", decisions)):
        for domain, clips in (("source", ~section.target), ("target", section.target)):
            names = np.array(section.clips)[clips]
            write_csv(tmp_path / f"{kind}_fan_section_03_{domain}_test.csv", names, values[clips])
    figures = evaluate_folder(tmp_path, [section], rule=IN_DOMAIN).figures
    row = figures["machine_types"]["fan"]["sections"]["03"]
    own = section.target
    assert row["auc_target"] == metrics.roc_auc_score(section.anomalous[own], scores[own])
    assert row["pauc_target"] == metrics.roc_auc_score(section.anomalous[own], scores[own], max_fpr=0.1)
    four = [row[name] for name in IN_DOMAIN.metrics]
    assert figures["official_score"] == pytest.approx(scipy.stats.hmean(four), abs=1e-12)
    assert figures["means"]["harmonic"]["pauc"] == pytest.approx(scipy.stats.hmean(four[2:]), abs=1e-12)


def test_without_domains_there_are_no_decisions(tmp_path):
    rng = np.random.default_rng(17)
    plain = true_section(rng, "pump", "01")
    section = TrueSection("pump", "01", plain.clips, plain.anomalous, np.zeros(40, dtype=bool))
    scores = random_scores(rng, section)
    write_csv(tmp_path / "anomaly_score_pump_id_01_test.csv", section.clips, scores)
    figures = evaluate_folder(tmp_path, [section], rule=WITHOUT_DOMAINS).figures
    row = {
        "auc": metrics.roc_auc_score(section.anomalous, scores),
        "pauc": metrics.roc_auc_score(section.anomalous, scores, max_fpr=0.1),
    }
    assert figures["machine_types"]["pump"]["sections"] == {"01": row}
    assert figures["official_score"] == pytest.approx(np.mean(list(row.values())), abs=1e-12)
    assert figures["means"]["arithmetic"] == row
    assert set(figures["means"]) == {"arithmetic", "harmonic"}


def test_data_of_one_domain_have_the_figures_that_exist(tmp_path):
    rng = np.random.default_rng(18)
    plain = true_section(rng)
    section = TrueSection("fan", "00", plain.clips, plain.anomalous, np.zeros(40, dtype=bool))
    submit(tmp_path, section, random_scores(rng, section), DECISIONS["some"](rng, section))
    evaluation = evaluate_folder(tmp_path, [section])
    row = evaluation.figures["machine_types"]["fan"]["sections"]["00"]
    assert "auc_target" not in row
    assert "f1_target" not in row
    assert "target_harmonic" in evaluation.figures["means"]  # the pAUC is of both domains
    assert set(evaluation.figures["means"]["target_harmonic"]) == {"pauc"}
    assert "–" not in render(evaluation, format="csv", title="")


def test_a_submission_covers_a_subset(tmp_path):
    rng = np.random.default_rng(19)
    sections = [
        true_section(rng, "fan", subset="dev"),
        true_section(rng, "Vacuum", subset="eval"),
        true_section(rng, "shaker", subset="eval"),
    ]
    for section in sections[1:]:
        submit(tmp_path, section, random_scores(rng, section), DECISIONS["some"](rng, section))
    assert list(evaluate_folder(tmp_path, sections).figures["machine_types"]) == ["Vacuum", "shaker"]
    (tmp_path / "anomaly_score_shaker_section_00_test.csv").unlink()
    with pytest.raises(InputError, match=r"has no anomaly_score_shaker_section_00_test.csv; a submission"):
        evaluate_folder(tmp_path, sections)


def test_decimal_decisions_are_cut_off_and_noted(tmp_path):
    rng = np.random.default_rng(20)
    section = true_section(rng)
    scores, decisions = random_scores(rng, section), DECISIONS["some"](rng, section)
    submit(tmp_path / "whole", section, scores, decisions)
    submit(tmp_path / "cut", section, scores, np.where(decisions == 0, 0.9, 1.0))
    whole = evaluate_folder(tmp_path / "whole", [section])
    cut = evaluate_folder(tmp_path / "cut", [section])
    assert (cut.figures, whole.notes) == (whole.figures, ())
    assert "decisions are not 0 or 1" in cut.notes[0]


def broken(tmp_path, section, change, kind="anomaly_score"):
    """Write a submission one of whose files is changed by a function of its lines."""
    rng = np.random.default_rng(21)
    submit(tmp_path, section, random_scores(rng, section), DECISIONS["some"](rng, section))
    path = tmp_path / f"{kind}_fan_section_00_test.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)))
    return path


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("anomaly_score", lambda lines: lines[:-2], "no row for 'section_00_0038.wav' and 1 more"),
        ("anomaly_score", lambda lines: [*lines, lines[0]], "line 41: .* already has a row"),
        ("anomaly_score", lambda lines: ["file,score", *lines], "'file' is not a test clip of fan section"),
        ("anomaly_score", lambda lines: [lines[0] + "x", *lines[1:]], "x' is not a finite number"),
        ("anomaly_score", lambda lines: ["section_00_0000.wav,nan", *lines[1:]], "'nan' is not a finite"),
        ("anomaly_score", lambda lines: ["section_00_0000.wav,inf", *lines[1:]], "'inf' is not a finite"),
        ("anomaly_score", lambda lines: ["section_00_0000.wav", *lines[1:]], "line 1 has no value"),
        ("decision_result", lambda lines: ["section_00_0000.wav,2", *lines[1:]], "is 2; give 0"),
        ("decision_result", lambda lines: ["section_00_0000.wav,nan", *lines[1:]], "is nan; give 0"),
        ("decision_result", lambda lines: lines[1:], "decision_result.*no row for 'section_00_0000.wav'"),
    ],
)  # fmt: skip
def test_what_the_files_lack_is_said(tmp_path, kind, change, message):
    section = true_section(np.random.default_rng(22))
    broken(tmp_path, section, change, kind)
    with pytest.raises(InputError, match=message):
        evaluate_folder(tmp_path, [section])


def test_a_blank_last_line_is_no_row(tmp_path):
    section = true_section(np.random.default_rng(23))
    broken(tmp_path, section, lambda lines: [*lines, "", ""])
    evaluate_folder(tmp_path, [section])


def test_a_folder_without_submission_is_refused(tmp_path: Path):
    rng = np.random.default_rng(24)
    section = true_section(rng)
    with pytest.raises(InputError, match="is not a folder"):
        evaluate_folder(tmp_path / "none", [section])
    with pytest.raises(InputError, match=r"contains no score file .* with known labels: fan"):
        evaluate_folder(tmp_path, [section])
    submit(tmp_path / "team" / "system", section, random_scores(rng, section), DECISIONS["all"](rng, section))
    with pytest.raises(InputError, match=r"did you mean .*team/system"):
        evaluate_folder(tmp_path, [section])
    (tmp_path / "team" / "system" / "decision_result_fan_section_00_test.csv").unlink()
    with pytest.raises(InputError, match=r"has no decision_result_fan_section_00_test.csv"):
        evaluate_folder(tmp_path / "team" / "system", [section])


def test_a_section_that_cannot_be_scored_is_named(tmp_path):
    plain = true_section(np.random.default_rng(25))
    section = TrueSection("fan", "00", plain.clips, np.zeros(40, dtype=bool), plain.target)
    submit(tmp_path, section, np.arange(40.0), np.ones(40, dtype=int))
    with pytest.raises(InputError, match="fan section 00: there is no anomaly among the 40 clips"):
        evaluate_folder(tmp_path, [section], rule=OFFICIAL)


def test_an_auc_far_below_chance_is_a_note(tmp_path):
    section = true_section(np.random.default_rng(0), clips=200)
    swapped = np.where(section.anomalous, 0.0, 1.0)
    submit(tmp_path, section, swapped, swapped.astype(int))
    (note,) = evaluate_folder(tmp_path, [section]).notes
    assert note == (
        "AUC source 0.0 % of fan section 00 and AUC target 0.0 % of fan section 00 are far below chance; "
        "are the labels swapped?"
    )
    submit(tmp_path, section, 1 - swapped, 1 - swapped.astype(int))
    assert evaluate_folder(tmp_path, [section]).notes == ()
