import csv
import dataclasses
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from asdbench.errors import InputError
from asdbench.metrics import (
    IN_DOMAIN,
    OFFICIAL,
    WITHOUT_DOMAINS,
    Rule,
    decision_metrics,
    official_score,
    section_metrics,
    summary,
)
from asdbench.metrics.official import MEANS

TABLE2 = Path(__file__).parents[1] / "golden" / "dku2023_table2.csv"


def random_section(rng, *, clips=200):
    anomalous = rng.random(clips) < 0.5
    target = rng.random(clips) < 0.4
    scores = np.round(rng.normal(size=clips) + 0.7 * anomalous, 1)
    return scores, anomalous, target


@pytest.fixture(scope="module")
def table2():
    """Table 2 of the report: the cells by system and machine type, and the printed averages."""
    lines = TABLE2.read_text(encoding="utf-8").splitlines()
    cells, printed = {}, {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        if row["machine"] == "AVERAGE_PRINTED":
            printed[row["system"]] = float(row["value"])
        else:
            types = cells.setdefault(row["system"], {})
            types.setdefault(row["machine"], {})[row["metric"]] = float(row["value"])
    return cells, printed


def test_the_printed_average_of_both_baselines_is_the_official_score(table2):
    cells, printed = table2
    assert printed == {"baseline_mse": 55.02, "baseline_maha": 56.91}
    for system, average in printed.items():
        assert round(official_score(cells[system].values()), 2) == average


@pytest.mark.parametrize(
    ("system", "harmonic", "arithmetic"),
    [
        ("dku_1_mel", 59.73, 63.10),
        ("dku_2_combined", 62.13, 64.46),
        ("dku_3_adv", 59.56, 61.42),
        ("dku_4_ens", 61.67, 64.12),
    ],
)
def test_recomputed_means_of_the_report(table2, system, harmonic, arithmetic):
    sections = table2[0][system].values()
    assert sum(map(len, sections)) == 21
    assert round(official_score(sections), 2) == harmonic
    assert round(summary(sections)["arithmetic_mean"], 2) == arithmetic


def test_official_metrics_rank_the_normals_of_a_domain_against_all_anomalies():
    rng = np.random.default_rng(5)
    for _ in range(20):
        scores, anomalous, target = random_section(rng)
        by_source = ~target | anomalous
        by_target = target | anomalous
        expected = {
            "auc_source": roc_auc_score(anomalous[by_source], scores[by_source]),
            "auc_target": roc_auc_score(anomalous[by_target], scores[by_target]),
            "pauc": roc_auc_score(anomalous, scores, max_fpr=0.1),
        }
        metrics = section_metrics(scores, anomalous, target)
        assert metrics == pytest.approx(expected, abs=1e-12)
        assert tuple(metrics) == OFFICIAL.metrics


def test_in_domain_metrics_take_the_clips_of_one_domain():
    rng = np.random.default_rng(6)
    for _ in range(20):
        scores, anomalous, target = random_section(rng)
        expected = {}
        for domain, clips in (("source", ~target), ("target", target)):
            expected[f"auc_{domain}"] = roc_auc_score(anomalous[clips], scores[clips])
            expected[f"pauc_{domain}"] = roc_auc_score(anomalous[clips], scores[clips], max_fpr=0.1)
        metrics = section_metrics(scores, anomalous, target, rule=IN_DOMAIN)
        assert metrics == pytest.approx(expected, abs=1e-12)
        assert tuple(metrics) == IN_DOMAIN.metrics


def test_a_rule_with_one_pauc_a_type_counts_as_the_report_does():
    one = dataclasses.replace(IN_DOMAIN, pauc_of=("target",))
    section = random_section(np.random.default_rng(7))
    both = section_metrics(*section, rule=IN_DOMAIN)
    metrics = section_metrics(*section, rule=one)
    assert metrics == {name: both[name] for name in ("auc_source", "auc_target", "pauc_target")}
    assert official_score([metrics], rule=one) == pytest.approx(hmean(list(metrics.values())), abs=1e-12)


def test_the_false_positive_rate_of_the_rule_is_used():
    scores, anomalous, target = random_section(np.random.default_rng(8))
    wide = section_metrics(scores, anomalous, target, rule=Rule(max_fpr=0.3))
    assert wide["pauc"] == pytest.approx(roc_auc_score(anomalous, scores, max_fpr=0.3), abs=1e-12)


def test_metrics_do_not_depend_on_scale_or_order_of_clips():
    rng = np.random.default_rng(9)
    scores, anomalous, target = random_section(rng)
    order = rng.permutation(scores.size)
    for rule in (OFFICIAL, IN_DOMAIN):
        metrics = section_metrics(scores, anomalous, target, rule=rule)
        assert section_metrics(3 * scores - 7, anomalous, target, rule=rule) == metrics
        shuffled = section_metrics(scores[order], anomalous[order], target[order], rule=rule)
        assert shuffled == pytest.approx(metrics, abs=1e-14)


def test_data_of_one_domain_give_the_metrics_that_exist():
    scores, anomalous, _ = random_section(np.random.default_rng(10))
    source_only = np.zeros(200, dtype=bool)
    metrics = section_metrics(scores, anomalous, source_only)
    assert metrics == pytest.approx(
        {
            "auc_source": roc_auc_score(anomalous, scores),
            "pauc": roc_auc_score(anomalous, scores, max_fpr=0.1),
        },
        abs=1e-12,
    )
    assert official_score([metrics]) == pytest.approx(hmean(list(metrics.values())), abs=1e-12)
    assert set(section_metrics(scores, anomalous, source_only, rule=IN_DOMAIN)) == {
        "auc_source",
        "pauc_source",
    }
    assert set(section_metrics(scores, anomalous, ~source_only)) == {"auc_target", "pauc"}


def test_anomalies_of_one_domain_serve_both_under_the_official_rule_only():
    scores = [0.0, 1.0, 2.0, 3.0]
    anomalous = [False, True, False, True]
    target = [False, False, True, False]  # the target domain has a normal clip and no anomaly
    assert section_metrics(scores, anomalous, target)["auc_target"] == 0.5
    with pytest.raises(InputError, match="no anomaly among the 1 clips of the target domain"):
        section_metrics(scores, anomalous, target, rule=IN_DOMAIN)


@pytest.mark.parametrize(
    ("anomalous", "target", "message"),
    [
        ([False] * 4, [False, False, True, True], "no anomaly among the 4 clips of the section"),
        ([True] * 4, [False, False, True, True], "no normal clip among the 4 clips of the section"),
        ([False, True, True, True], [False, False, True, True], "no normal clip .* of the target domain"),
        ([False, True, False, True], [False, True], r"target has shape \(2,\) for 4 clips"),
        ([False, True, False, True], [0, 0, 1, 1], "target holds int64 values; give booleans"),
    ],
)
def test_sections_without_metrics_are_refused(anomalous, target, message):
    with pytest.raises(InputError, match=message):
        section_metrics([0.0, 1.0, 2.0, 3.0], anomalous, target)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="score of clip 1 is inf"):
        section_metrics([0.0, np.inf], [False, True], [False, False])


def test_the_official_score_is_a_harmonic_mean_floored_at_the_float_epsilon():
    sections = [{"auc_source": 0.0, "auc_target": 0.5, "pauc": 0.6}, {"auc_source": 0.9, "pauc": 0.7}]
    values = np.maximum([0.0, 0.5, 0.6, 0.9, 0.7], sys.float_info.epsilon)
    assert official_score(sections) == pytest.approx(hmean(values), rel=1e-12)
    assert official_score(sections) > 0
    assert official_score(iter(sections)) == official_score(sections)
    assert official_score(sections, rule=Rule(floor=0.4)) == pytest.approx(
        hmean([0.4, 0.5, 0.6, 0.9, 0.7]), abs=1e-12
    )


def test_a_rule_may_take_the_arithmetic_mean():
    sections = [{"auc_source": 0.2, "pauc": 0.6}, {"auc_source": 0.7}]
    assert official_score(sections, rule=Rule(mean="arithmetic")) == pytest.approx(0.5, abs=1e-15)


def test_summary_gives_each_mean():
    sections = [
        {"auc_source": 0.8, "auc_target": 0.5, "pauc": 0.6},
        {"auc_source": 0.4, "pauc": 0.5},
    ]
    assert summary(iter(sections)) == pytest.approx(
        {
            "score": hmean([0.8, 0.5, 0.6, 0.4, 0.5]),
            "arithmetic_mean": 0.56,
            "harmonic_mean_auc_source": hmean([0.8, 0.4]),
            "harmonic_mean_auc_target": 0.5,
            "harmonic_mean_pauc": hmean([0.6, 0.5]),
        },
        abs=1e-12,
    )


def test_the_floor_applies_to_every_mean_of_a_summary():
    means = summary([{"auc_source": 0.0}, {"auc_source": 0.8}], rule=Rule(floor=0.4))
    assert means == pytest.approx(
        {
            "score": hmean([0.4, 0.8]),
            "arithmetic_mean": 0.6,
            "harmonic_mean_auc_source": hmean([0.4, 0.8]),
        },
        abs=1e-12,
    )


@pytest.mark.parametrize("mean", [official_score, summary])
@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ([], "there are no metrics to average"),
        ([{}], "there are no metrics to average"),
        ([{"auc_source": np.nan}], "auc_source is nan; a mean needs finite values"),
        ([{"auc_sorce": 0.5}], "no metric of this rule 'auc_sorce'; did you mean 'auc_source'"),
        ([{"pauc_source": 0.5}], "no metric of this rule 'pauc_source'"),
    ],
)
def test_values_without_a_mean_are_refused(mean, sections, message):
    with pytest.raises(InputError, match=message):
        mean(sections)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": "harmonc"}, "no mean 'harmonc'; did you mean 'harmonic'"),
        ({"anomalies": "both"}, "no choice of anomalies 'both'"),
        ({"pauc_of": ("sections",)}, "no set of clips for a pAUC 'sections'; did you mean 'section'"),
    ],
)
def test_a_rule_that_does_not_exist_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Rule(**fields)


def test_decision_metrics_are_those_of_sklearn_domain_by_domain():
    rng = np.random.default_rng(11)
    for share in (0.0, 0.1, 0.5, 1.0):
        for _ in range(20):
            _, anomalous, target = random_section(rng, clips=30)
            decisions = rng.random(30) < share
            expected = {}
            for domain, clips in (("source", ~target), ("target", target)):
                precision, recall, f1, _ = precision_recall_fscore_support(
                    anomalous[clips], decisions[clips], average="binary", zero_division=0
                )
                expected |= {
                    f"precision_{domain}": precision,
                    f"recall_{domain}": recall,
                    f"f1_{domain}": f1,
                }
            assert decision_metrics(decisions, anomalous, target) == pytest.approx(expected, abs=1e-12)


def test_decision_metrics_without_domains_are_of_all_clips():
    _, anomalous, target = random_section(np.random.default_rng(12))
    decisions = np.random.default_rng(13).random(anomalous.size) < 0.3
    expected = precision_recall_fscore_support(anomalous, decisions, average="binary")[:3]
    found = decision_metrics(decisions, anomalous, target, rule=WITHOUT_DOMAINS)
    assert found == pytest.approx(dict(zip(("precision", "recall", "f1"), expected, strict=True)), abs=1e-12)


def test_nothing_decided_and_nothing_anomalous_give_zeros():
    zeros = {"precision_source": 0.0, "recall_source": 0.0, "f1_source": 0.0}
    no = [False, False]
    assert decision_metrics(no, [True, False], no) == zeros
    assert decision_metrics([True, False], no, no) == zeros
    assert decision_metrics(no, no, no) == zeros


@pytest.mark.parametrize(
    ("decisions", "anomalous", "target", "message"),
    [
        ([], [], [], "there is no decision"),
        ([True, False], [True], [True, False], r"anomalous has shape \(1,\) for 2 clips"),
        ([True, False], [True, False], [True], r"target has shape \(1,\) for 2 clips"),
        ([1, 0], [True, False], [True, False], "decisions holds int64 values; give booleans"),
    ],
)
def test_decisions_that_do_not_fit_are_refused(decisions, anomalous, target, message):
    with pytest.raises(InputError, match=message):
        decision_metrics(decisions, anomalous, target)


# Properties of every rule

RULES = {"official": OFFICIAL, "in domain": IN_DOMAIN, "without domains": WITHOUT_DOMAINS}
MONOTONE = {
    "cube": lambda scores: scores**3,
    "exponential": np.exp,
    "arc tangent": np.arctan,
    "ranks": lambda scores: np.unique(scores, return_inverse=True)[1].astype(float),
    "affine": lambda scores: 1e6 * scores + 3,
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("transform", MONOTONE.values(), ids=MONOTONE)
def test_a_monotone_transform_of_the_scores_changes_nothing(rule, transform):
    scores, anomalous, target = random_section(np.random.default_rng(31))
    metrics = section_metrics(scores, anomalous, target, rule=rule)
    assert section_metrics(transform(scores), anomalous, target, rule=rule) == metrics


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_order_of_clips_and_of_sections_changes_nothing(rule):
    rng = np.random.default_rng(32)
    sections = [random_section(rng) for _ in range(4)]
    rows = [section_metrics(*section, rule=rule) for section in sections]
    shuffled = []
    for scores, anomalous, target in sections:
        order = rng.permutation(scores.size)
        shuffled.append(section_metrics(scores[order], anomalous[order], target[order], rule=rule))
    assert [pytest.approx(row, abs=1e-14) for row in rows] == shuffled
    assert official_score(rows[::-1], rule=rule) == pytest.approx(official_score(rows, rule=rule), abs=1e-15)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_inverted_scores_turn_an_auc_around(rule):
    scores, anomalous, target = random_section(np.random.default_rng(33))
    metrics = section_metrics(scores, anomalous, target, rule=rule)
    inverted = section_metrics(-scores, anomalous, target, rule=rule)
    for name in (name for name in rule.metrics if name.startswith("auc")):
        assert inverted[name] == pytest.approx(1 - metrics[name], abs=1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("scores", [np.zeros(200), np.full(200, 7.5)])
def test_constant_scores_are_chance(rule, scores):
    _, anomalous, target = random_section(np.random.default_rng(34))
    metrics = section_metrics(scores, anomalous, target, rule=rule)
    assert tuple(metrics) == rule.metrics
    assert official_score([metrics], rule=rule) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("only", [False, True])
def test_a_section_of_one_class_is_a_clear_error(rule, only):
    missing = "no normal clip" if only else "no anomaly"
    with pytest.raises(InputError, match=f"there is {missing} among the 200 clips of the section; an AUC"):
        section_metrics(np.arange(200.0), np.full(200, only), np.arange(200) % 2 == 0, rule=rule)


def test_without_domains_there_is_one_auc_and_one_pauc_and_their_plain_mean():
    scores, anomalous, target = random_section(np.random.default_rng(35))
    metrics = section_metrics(scores, anomalous, target, rule=WITHOUT_DOMAINS)
    expected = {
        "auc": roc_auc_score(anomalous, scores),
        "pauc": roc_auc_score(anomalous, scores, max_fpr=0.1),
    }
    assert metrics == pytest.approx(expected, abs=1e-12)
    assert tuple(metrics) == WITHOUT_DOMAINS.metrics
    assert official_score([metrics], rule=WITHOUT_DOMAINS) == pytest.approx(np.mean([*expected.values()]))
    assert (WITHOUT_DOMAINS.domains, IN_DOMAIN.domains) == ((), ("source", "target"))


def test_without_domains_a_domain_of_one_class_is_no_error():
    scores, anomalous, _ = random_section(np.random.default_rng(36))
    assert section_metrics(scores, anomalous, ~anomalous, rule=WITHOUT_DOMAINS).keys() == {"auc", "pauc"}
    with pytest.raises(InputError, match="the source domain"):
        section_metrics(scores, anomalous, ~anomalous, rule=IN_DOMAIN)


def test_a_summary_has_the_means_of_the_rule():
    rows = [{"auc": 0.9, "pauc": 0.5}, {"auc": 0.7, "pauc": 0.7}]
    assert summary(rows, rule=WITHOUT_DOMAINS) == pytest.approx(
        {"score": 0.7, "arithmetic_mean": 0.7, "arithmetic_mean_auc": 0.8, "arithmetic_mean_pauc": 0.6}
    )


def test_a_rule_with_an_unknown_set_of_clips_is_refused():
    with pytest.raises(InputError, match="no set of clips for an AUC 'sorce'; did you mean 'source'"):
        Rule(auc_of=("sorce",))


def test_the_harmonic_mean_is_that_of_the_standard_library_to_the_last_bit() -> None:
    generator = np.random.default_rng(0)
    for count in (1, 2, 21, 105):
        for scale in (1.0, 100.0, 1e-9):
            values = (scale * generator.uniform(1e-16, 1, count)).tolist()
            assert MEANS["harmonic"](values) == statistics.harmonic_mean(values)
