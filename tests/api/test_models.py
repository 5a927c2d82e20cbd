"""A system that has been run is exported and loaded."""

from pathlib import Path

import polars as pl
import pytest
import soundfile

import asdbench

OPTIONS = {"settings": {"epochs": 2, "hidden": 8}}


def test_a_loaded_detector_gives_the_stored_scores(finished_home: Path, tmp_path: Path) -> None:
    folder = asdbench.export(
        "baseline-mse",
        data="demo",
        output=tmp_path / "detector",
        home=finished_home,
        **OPTIONS,  # type: ignore[arg-type]
    )
    assert folder == tmp_path / "detector"
    detector = asdbench.load(folder)
    scores = asdbench.scores("baseline-mse", data="demo", home=finished_home, **OPTIONS)  # type: ignore[arg-type]
    for clip in scores.frame.filter(pl.col("machine_type") == "valve").head(3).iter_rows(named=True):
        samples, rate = soundfile.read(finished_home / "recordings" / clip["path"])
        detection = detector.score(samples, rate, machine="valve")
        assert detection.score == pytest.approx(clip["score"], rel=1e-4)
        assert detection.threshold == pytest.approx(clip["threshold"], rel=1e-4)
        assert detection.decision == clip["decision"]


def test_one_machine_type_can_be_exported(
    finished_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = asdbench.export("baseline-mse", data="demo", machines="fan", home=finished_home, **OPTIONS)  # type: ignore[arg-type]
    assert folder == Path("detectors/baseline-mse-demo")
    assert asdbench.load(folder).machine_types == ("fan",)


def test_what_is_no_detector_is_bad_input(finished_home: Path, tmp_path: Path) -> None:
    with pytest.raises(asdbench.InputError):
        asdbench.load(tmp_path)
    with pytest.raises(asdbench.InputError, match="run 'asdbench run baseline-mse --data demo --seeds 5"):
        asdbench.export("baseline-mse", data="demo", seed=5, home=finished_home, **OPTIONS)  # type: ignore[arg-type]
