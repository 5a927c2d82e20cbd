import numpy as np
import pytest
from scipy.stats import norm

from asdbench.errors import InputError
from asdbench.metrics import (
    IN_DOMAIN,
    OFFICIAL,
    WITHOUT_DOMAINS,
    official_score,
    partial_auc,
    section_metrics,
)
from asdbench.metrics.bootstrap import SectionScores, _weighted_auc, bootstrap

CLIPS = 40


def clips(cells=10):
    """Labels and domains of test clips, as many of each."""
    return np.tile([False, True], 2 * cells), np.arange(4 * cells) < 2 * cells


def section(rng, machine_type="fan", *, systems=2, seeds=1, better=0.0, cells=10):
    anomalous, target = clips(cells)
    scores = rng.normal(size=(systems, seeds, anomalous.size)) + 0.5 * anomalous
    scores[1:] += better * anomalous
    return SectionScores(machine_type, scores, anomalous, target)


@pytest.mark.parametrize("distinct", [1, 3, 12, 10_000])
@pytest.mark.parametrize("max_fpr", [1.0, 0.1, 0.37])
def test_weights_count_as_repeated_clips(distinct, max_fpr):
    rng = np.random.default_rng(1)
    scores = rng.choice(rng.normal(size=distinct), 35)
    normal, anomaly = scores[:20], scores[20:]
    normal_counts = rng.multinomial(20, [1 / 20] * 20, size=25)
    anomaly_counts = rng.multinomial(15, [1 / 15] * 15, size=25)
    found = _weighted_auc(
        normal,
        anomaly,
        normal_counts.astype(np.float32),
        anomaly_counts.astype(np.float32),
        max_fpr=max_fpr,
    )
    for value, of_normal, of_anomaly in zip(found, normal_counts, anomaly_counts, strict=True):
        drawn = np.concatenate([np.repeat(normal, of_normal), np.repeat(anomaly, of_anomaly)])
        expected = partial_auc(drawn, np.repeat([False, True], [20, 15]), max_fpr=max_fpr)
        assert value == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("rule", [OFFICIAL, IN_DOMAIN, WITHOUT_DOMAINS])
def test_observed_scores_are_means_over_seeds_of_the_rules_score(rule):
    rng = np.random.default_rng(2)
    sections = [section(rng, name, seeds=3) for name in ("fan", "valve", "valve")]
    overall, by_type = bootstrap(sections, rng, rule=rule, resamples=20)

    def score(system, seed, of):
        rows = [section_metrics(s.scores[system, seed], s.anomalous, s.target, rule=rule) for s in of]
        return official_score(rows, rule=rule)

    for system in range(2):
        expected = np.mean([score(system, seed, sections) for seed in range(3)])
        assert overall.observed[system] == pytest.approx(expected, abs=1e-12)
        of_valve = np.mean([score(system, seed, sections[1:]) for seed in range(3)])
        assert by_type["valve"].observed[system] == pytest.approx(of_valve, abs=1e-12)
    assert list(by_type) == ["fan", "valve"]
    assert overall.resampled.shape == (20, 2)


@pytest.mark.parametrize("rule", [OFFICIAL, IN_DOMAIN, WITHOUT_DOMAINS])
def test_resampled_scores_are_the_scores_of_drawn_clips(rule):
    """The spread and the center agree with a bootstrap clip by clip, which draws one fewer than there are."""
    rng = np.random.default_rng(3)
    of = section(rng, systems=1)
    overall, _ = bootstrap([of], rng, rule=rule, resamples=4000)
    strata = [np.flatnonzero((of.target == d) & (of.anomalous == a)) for d in (0, 1) for a in (0, 1)]
    plain = []
    for _ in range(1500):
        drawn = np.concatenate([rng.choice(stratum, stratum.size - 1) for stratum in strata])
        metrics = section_metrics(of.scores[0, 0, drawn], of.anomalous[drawn], of.target[drawn], rule=rule)
        plain.append(official_score([metrics], rule=rule))
    assert overall.resampled.mean() == pytest.approx(np.mean(plain), abs=0.006)
    assert overall.resampled.std() == pytest.approx(np.std(plain), rel=0.08)


def test_equal_systems_do_not_differ_in_any_resample():
    rng = np.random.default_rng(4)
    of = section(rng, systems=1, seeds=2)
    twice = SectionScores("fan", np.concatenate([of.scores, np.exp(of.scores)]), of.anomalous, of.target)
    overall, _ = bootstrap([twice], rng, resamples=300)
    assert overall.difference(0, 1) == 0
    assert overall.difference_interval(0, 1) == (0, 0)
    low, high = overall.interval(0)
    assert low < overall.observed[0] < high


def test_other_seeds_than_those_seen_widen_an_interval():
    rng = np.random.default_rng(5)
    anomalous, target = clips()
    good = anomalous + 0.1 * rng.random(CLIPS)
    scores = np.stack([good, -good])[None]  # one seed perfect, the other inverted
    overall, _ = bootstrap([SectionScores("fan", scores, anomalous, target)], rng, resamples=20)
    assert overall.per_seed[0] == pytest.approx([1, 0], abs=1e-12)
    assert overall.interval(0) == (0, 1)
    alone, _ = bootstrap([SectionScores("fan", scores[:, :1], anomalous, target)], rng, resamples=20)
    assert alone.interval(0) == pytest.approx((1, 1))


def test_systems_may_have_different_numbers_of_seeds():
    rng = np.random.default_rng(15)
    of = section(rng, seeds=4)
    ragged = SectionScores("fan", [of.scores[0], of.scores[1, :3]], of.anomalous, of.target)
    overall, _ = bootstrap([ragged], np.random.default_rng(0), resamples=50)
    whole, _ = bootstrap([of], np.random.default_rng(0), resamples=50)
    assert [seeds.size for seeds in overall.per_seed] == [4, 3]
    assert overall.observed[0] == whole.observed[0]
    assert overall.observed[1] == pytest.approx(whole.per_seed[1][:3].mean())
    assert (overall.resampled[:, 0] == whole.resampled[:, 0]).all()
    low, high = overall.difference_interval(0, 1)
    assert low < overall.difference(0, 1) < high


def test_the_interval_of_a_difference_covers_the_true_one():
    """Simulated systems whose AUC is known, and whose scores of a clip go together."""
    rng = np.random.default_rng(6)
    anomalous, target = clips(25)
    shifts = (0.8, 1.2)
    truth = norm.cdf(shifts[1] / np.sqrt(2)) - norm.cdf(shifts[0] / np.sqrt(2))
    covered, widths, alone = 0, [], []
    rule = WITHOUT_DOMAINS.__class__(auc_of=("section",), pauc_of=(), mean="arithmetic")
    for _ in range(150):
        common = rng.normal(size=anomalous.size) * np.sqrt(0.8)
        own = rng.normal(size=(2, anomalous.size)) * np.sqrt(0.2)
        scores = common + own + np.outer(shifts, anomalous)
        overall, _ = bootstrap(
            [SectionScores("fan", scores[:, None], anomalous, target)], rng, rule=rule, resamples=500
        )
        low, high = overall.difference_interval(0, 1)
        covered += low <= truth <= high
        widths.append(high - low)
        alone.append(np.subtract(*overall.interval(0)[::-1]))
    assert 0.88 <= covered / 150 <= 0.99
    assert np.mean(widths) < 0.8 * np.mean(alone)  # what is hard for both cancels


def test_a_better_system_is_seen_and_the_order_of_systems_turns_the_sign():
    rng = np.random.default_rng(7)
    sections = [section(rng, name, better=1.5, cells=25) for name in ("fan", "valve")]
    overall, by_type = bootstrap(sections, np.random.default_rng(8), resamples=500)
    low, high = overall.difference_interval(0, 1)
    assert 0 < low < overall.difference(0, 1) < high
    assert overall.difference_interval(1, 0) == pytest.approx((-high, -low))
    narrow = overall.difference_interval(0, 1, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high
    again, _ = bootstrap(sections, np.random.default_rng(8), resamples=500)
    assert (again.resampled == overall.resampled).all()
    assert by_type["fan"].difference_interval(0, 1)[0] > 0


def test_data_of_one_domain_are_resampled_in_that_domain():
    rng = np.random.default_rng(9)
    of = section(rng)
    source = SectionScores("fan", of.scores, of.anomalous, np.zeros(CLIPS, dtype=bool))
    overall, _ = bootstrap([source], rng, resamples=50)
    assert np.isfinite(overall.resampled).all()


def wrong(**changes):
    of = section(np.random.default_rng(10))
    return SectionScores(**({"machine_type": "fan", "scores": of.scores, "anomalous": of.anomalous,
                             "target": of.target} | changes))  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "options", "message"),
    [
        ([], {}, "no scores to resample"),
        ([wrong()], {"resamples": 0}, "resamples is 0; give a whole number"),
        ([wrong(scores=np.zeros(40))], {}, r"scores of fan have shape \(40,\); give"),
        ([wrong(scores=np.full((1, 1, 40), np.nan))], {}, "score of clip 0 is nan"),
        (
            [wrong(), wrong(scores=np.zeros((1, 1, 40)))],
            {},
            r"systems with \(1,\), \(1, 1\) seeds; give every",
        ),
        ([wrong(scores=[np.zeros(40)])], {}, r"scores of a system on fan have shape \(40,\); give"),
        ([wrong(group=["a"])], {}, "1 recordings for 40 clips; give one for each"),
        ([wrong(anomalous=np.zeros(40, dtype=bool))], {}, "no anomaly among the 40 clips"),
        ([wrong(target=np.zeros(3, dtype=bool))], {}, r"target has shape \(3,\) for 40 clips"),
    ],
)
def test_scores_that_cannot_be_resampled_are_refused(sections, options, message):
    with pytest.raises(InputError, match=message):
        bootstrap(sections, np.random.default_rng(11), **{"resamples": 10} | options)


def test_a_confidence_outside_its_range_is_refused():
    overall, _ = bootstrap([wrong()], np.random.default_rng(12), resamples=10)
    with pytest.raises(InputError, match="confidence is 95; give a fraction"):
        overall.interval(0, confidence=95)
