import shutil
from pathlib import Path

import pytest
import yaml

from asdbench import registry
from asdbench.driver.export import ExportRequest, export_model, export_system
from asdbench.engine.decision_thresholds import decision_threshold
from asdbench.engine.detector import Detector
from asdbench.engine.job_store import JobStore
from asdbench.engine.spectrum import mean_level_db
from asdbench.errors import InputError
from asdbench.report.stored_runs import StoredRunOptions
from tests.exported import AUTOENCODER, Exported


def test_thresholds_are_calibrated_on_the_hold_out(exported: Exported) -> None:
    record = Detector.load(exported.folder).record
    for name, finished in exported.finished.items():
        for method, stored in record.machines[name].thresholds.items():
            assert stored.threshold == decision_threshold(finished.resolved, finished.fused, method=method)


def test_the_data_card_says_what_it_was_trained_on(exported: Exported) -> None:
    record = Detector.load(exported.folder).record
    assert (record.data.name, record.data.fingerprint) == ("tiny", exported.data.fingerprint())
    assert record.changed_settings == AUTOENCODER
    assert record.settings["batch_size"] == 256


def test_the_normal_level_is_of_training_normals(exported: Exported) -> None:
    from asdbench.data import feature_store

    clips = exported.finished["fan"].resolved.clips
    shard = feature_store.waveforms(exported.data, "fan")
    expected = mean_level_db([shard.clip(int(clip_id)) for clip_id in clips.training_ids])
    assert Detector.load(exported.folder).machine("fan").normal_level_db.allclose(expected)


def test_one_machine_type_can_be_exported_alone(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Detector.load(exported.folder).record.chosen_on == ()
    monkeypatch.setattr(registry.get("baseline-mse"), "chosen_on", ("tiny",))
    request = ExportRequest(
        "baseline-mse", "tiny", ["valve"], settings=StoredRunOptions(None, AUTOENCODER), threshold="tail"
    )
    record = export_system(request, exported.data.workspace, tmp_path / "new" / "detector")
    detector = Detector.load(tmp_path / "new" / "detector")
    assert detector.machine_types == tuple(record.machines) == ("valve",)
    assert detector.record.chosen_on == ("tiny",)
    assert yaml.safe_load((tmp_path / "new/detector/MLmodel").read_text())["metadata"]["chosen_on"] == [
        "tiny"
    ]
    found = detector.score(exported.recording("valve"), 16_000)
    assert found.score == pytest.approx(exported.test_clips("valve")["score"][0])
    assert found.threshold == record.machines["valve"].thresholds["tail"].threshold


def test_an_earlier_export_is_replaced_and_nothing_else(exported: Exported, tmp_path: Path) -> None:
    output = shutil.copytree(exported.folder, tmp_path / "detector")
    (output / "left over").write_text("")
    jobs = [exported.finished["fan"].resolved]
    store = JobStore.from_workspace(exported.data.workspace)
    export_model(jobs, store, output)
    assert Detector.load(output).machine_types == ("fan",)
    assert not (output / "left over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["detector"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not an exported detector; name another folder"):
        export_model(jobs, store, other)
    with pytest.raises(InputError, match="no threshold method 'gama'"):
        export_model(jobs, store, tmp_path / "third", threshold="gama")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detector", "other"]


def test_what_was_not_run_cannot_be_exported(exported: Exported, tmp_path: Path) -> None:
    workspace = exported.data.workspace
    with pytest.raises(InputError, match="no machine type in data set 'tiny': 'fen'"):
        export_system(ExportRequest("baseline-mse", "tiny", ["fen"]), workspace, tmp_path / "a")
    with pytest.raises(InputError, match="run 'asdbench run baseline-mse --data tiny --seeds 7'"):
        export_system(ExportRequest("baseline-mse", "tiny", seed=7), workspace, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_the_same_jobs_give_the_same_detector(exported: Exported, tmp_path: Path) -> None:
    jobs = [finished.resolved for finished in exported.finished.values()]
    record = export_model(jobs, JobStore.from_workspace(exported.data.workspace), tmp_path / "detector")
    assert record.machines == Detector.load(exported.folder).record.machines
