import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from scipy import stats

from asdbench.metrics import WITHOUT_DOMAINS, Rule
from asdbench.metrics.bootstrap import SectionScores, bootstrap, few_recordings, resampled_units
from asdbench.metrics.units import Units


def recordings(rng, n=8, clips=6, *, spread=1.0):
    """Scores of clips cut from recordings, of which half are of anomalies; clips of one go together."""
    anomalous = np.repeat(np.arange(n) % 2 == 1, clips)
    of_recording = np.repeat(spread * rng.normal(size=n), clips)
    scores = of_recording + 0.3 * rng.normal(size=n * clips) + anomalous
    group = [f"recording {k}" for k in range(n) for _ in range(clips)]
    return SectionScores("fan", scores[None, None], anomalous, np.zeros(n * clips, bool), group)


AUC = Rule(auc_of=("section",), pauc_of=(), mean=WITHOUT_DOMAINS.mean)


def test_clips_of_a_recording_are_drawn_together():
    of = recordings(np.random.default_rng(0))
    weights = Units.from_clips(of.group, of.anomalous, of.target).draw(50, np.random.default_rng(1))
    by_recording = weights.reshape(50, 8, 6)
    assert (by_recording == by_recording[:, :, :1]).all()
    assert (by_recording == 0).any()
    assert weights[:, of.anomalous].sum(axis=1) == pytest.approx(np.full(50, 24))


def test_recordings_of_one_clip_each_are_as_clips():
    of = recordings(np.random.default_rng(0), n=40, clips=1)
    by_clip = SectionScores("fan", of.scores, of.anomalous, of.target)
    both = [bootstrap([each], np.random.default_rng(1), resamples=50)[0] for each in (of, by_clip)]
    assert (both[0].resampled == both[1].resampled).all()
    assert resampled_units([of]) == resampled_units([by_clip]) == {"fan": "clips"}


def test_a_clip_without_a_recording_stands_for_itself():
    anomalous, target = np.tile([False, True], 4), np.zeros(8, bool)
    group = ["a", "b", "a", "b", None, None, None, None]
    units = Units.from_clips(group, anomalous, target)
    assert units.of_clip.tolist() == [0, 1, 0, 1, 2, 3, 4, 5]
    section = SectionScores("fan", np.zeros((1, 1, 8)), anomalous, target, group)
    alone = SectionScores("valve", np.zeros((1, 1, 8)), anomalous, target)
    assert resampled_units([section, alone]) == {"fan": "recordings", "valve": "clips"}
    assert few_recordings([section, alone]) == {"fan": 3}


def test_every_resample_has_clips_of_every_domain_and_label():
    """Recordings are unlike one another, and one alone has anomalies of the target domain."""
    cells = ["sn sa", "sn", "sa", "tn", "sn tn", "ta tn", "sn sa tn", "sn", "sa tn"]
    clips = [(recording, cell) for recording, of in enumerate(cells) for cell in of.split()]
    anomalous = np.array([cell[1] == "a" for _, cell in clips])
    target = np.array([cell[0] == "t" for _, cell in clips])
    units = Units.from_clips([recording for recording, _ in clips], anomalous, target)
    weights = units.draw(500, np.random.default_rng(0))
    for cell in ("sn", "sa", "tn", "ta"):
        assert (weights[:, [of == cell for _, of in clips]].sum(axis=1) > 0).all()
    assert (weights[:, [recording == 5 for recording, _ in clips]] == 1).all()
    assert (weights == 0).any(axis=0).sum() == len(clips) - 2
    assert units.fewest == 1


def test_few_recordings_are_found_in_the_domain_and_label_that_has_fewest():
    few, many = (recordings(np.random.default_rng(0), n=n) for n in (8, 10))
    assert few_recordings([few]) == {"fan": 4}
    assert few_recordings([many]) == {}


def test_few_recordings_widen_an_interval_by_students_t():
    of = recordings(np.random.default_rng(0), n=8)
    assert Units.from_clips(of.group, of.anomalous, of.target).freedom == 6
    overall, by_type = bootstrap([of], np.random.default_rng(1), resamples=400)
    assert overall.freedom == by_type["fan"].freedom == pytest.approx([6])
    low, high = overall.interval(0)
    percentiles = np.quantile(overall.resampled[:, 0], [0.025, 0.975])
    stretch = stats.t.ppf(0.975, 6) / stats.norm.ppf(0.975)
    assert overall.observed[0] - low == pytest.approx(stretch * (overall.observed[0] - percentiles[0]))
    assert high <= overall.observed[0] + stretch * (percentiles[1] - overall.observed[0])


def test_the_interval_by_recordings_holds_where_that_by_clips_does_not():
    rng = np.random.default_rng(3)
    truth = 0.7511  # Φ(1/√(2 · 1.09))
    covered = {"recordings": 0, "clips": 0}
    for _ in range(150):
        of = recordings(rng, n=24, clips=5)
        by_clips = SectionScores("fan", of.scores, of.anomalous, of.target)
        for name, section in (("recordings", of), ("clips", by_clips)):
            low, high = bootstrap([section], rng, rule=AUC, resamples=200)[0].interval(0)
            covered[name] += low <= truth <= high
    assert covered["recordings"] / 150 >= 0.9
    assert covered["clips"] / 150 < 0.75


@pytest.mark.skipif("ASDBENCH_SHOP" not in os.environ, reason="ASDBENCH_SHOP does not name the recordings")
def test_ten_bearings_say_less_than_their_198_clips():
    """A control: the distance of a clip's mean log spectrum to the nearest one of a training clip."""
    folder = Path(os.environ["ASDBENCH_SHOP"])
    table = pl.read_csv(folder / "BearingFEMTO" / "provenance.csv")
    name = pl.col("file_name").str
    table = table.with_columns(
        test=name.contains("_test_"), anomaly=name.contains("_anomaly_"), target=name.contains("_target_")
    )
    spectra = np.array([mean_log_spectrum(folder / file_name) for file_name in table["file_name"]])
    is_test = table["test"].to_numpy()
    distances = np.linalg.norm(spectra[is_test, None] - spectra[~is_test], axis=-1).min(axis=1)
    tested = table.filter("test")
    labels = tested["anomaly"].to_numpy(), tested["target"].to_numpy()
    deviation = {}
    for unit, group in (("clips", None), ("recordings", tested["original"].to_list())):
        section = SectionScores("bearing", distances[None, None], *labels, group)
        overall, _ = bootstrap([section], np.random.default_rng(0), resamples=1000)
        deviation[unit] = 100 * overall.resampled.std()
    assert 2.5 < deviation["clips"] < 4.5
    assert 7 < deviation["recordings"] < 11
    assert few_recordings([section]) == {"bearing": 3}


def mean_log_spectrum(path):
    samples, _ = soundfile.read(path)
    frames = samples[: samples.size // 1024 * 1024].reshape(-1, 1024)
    power = np.abs(np.fft.rfft(frames * np.hanning(1024))[:, :512]) ** 2
    return np.log(power.reshape(-1, 128, 4).mean(axis=2) + 1e-12).mean(axis=0)
