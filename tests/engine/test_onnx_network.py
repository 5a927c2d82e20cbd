import builtins
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from asdbench.data.clip_windows import scoring_batches
from asdbench.driver.export import export_model
from asdbench.engine.detector import Detector
from asdbench.engine.export_record import digest_of
from asdbench.engine.job_store import JobStore
from asdbench.engine.machine_detector import MachineDetector
from asdbench.engine.onnx_network import OnnxNetwork, check_onnx, onnx_network
from asdbench.errors import InputError
from asdbench.system import UNKNOWN
from tests.exported import Exported

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def fan(exported: Exported) -> MachineDetector:
    return Detector.load(exported.folder).machine("fan")


def test_an_exported_network_gives_the_components_of_torch(exported: Exported, tmp_path: Path) -> None:
    jobs = [exported.finished["fan"].resolved]
    store = JobStore.from_workspace(exported.data.workspace)
    record = export_model(jobs, store, tmp_path / "detector", onnx=True).machines["fan"]
    assert record.network is not None
    file = tmp_path / "detector" / "data" / "detector" / record.network.file
    assert digest_of(file.read_bytes()) == record.network.digest
    network = OnnxNetwork(file)
    assert network.names == record.network.outputs == ("mse",)
    fan = Detector.load(tmp_path / "detector").machine("fan")
    (model,) = fan.models
    for place in range(3):
        clip = np.rint(exported.recording("fan", place=place) * 32768).astype(np.int16)
        (batch,) = scoring_batches([clip], model.input_spec, model.standardization, section=UNKNOWN)
        (component,) = network(batch.windows.numpy())
        scores = fan.scores([clip])
        assert component == pytest.approx(scores.components["mse"][0], rel=1e-4)
        fused = record.models[0].fusion.score({"mse": np.array([component])})
        assert fused[0] == pytest.approx(scores.score[0], abs=1e-2)


def test_a_network_that_differs_is_not_written(fan: MachineDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxNetwork, "__call__", lambda self, windows: [0.0])
    with pytest.raises(InputError, match="the ONNX network of baseline-mse gives 0 as 'mse' where torch"):
        onnx_network(fan)


def test_a_system_that_cannot_be_converted_is_named(
    fan: MachineDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_value(batch: object) -> dict[str, Tensor]:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(fan.models[0].system, "window_components", by_value)
    with pytest.raises(InputError, match="the network of baseline-mse cannot be converted to ONNX"):
        onnx_network(fan)


def test_whole_clips_are_refused(fan: MachineDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = fan.models
    monkeypatch.setattr(model, "input_spec", replace(model.input_spec, window_frames=None))
    with pytest.raises(InputError, match="baseline-mse reads whole clips, and --onnx supports windows only"):
        onnx_network(fan)


def test_another_pooling_than_the_mean_is_refused(
    fan: MachineDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan.models[0].system, "window_pooling", lambda config: "max")
    with pytest.raises(
        InputError, match="pools windows by window_pooling=max, and --onnx supports mean only"
    ):
        onnx_network(fan)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *rest: object) -> object:
        if name == "onnxruntime":
            raise ImportError("no such package", name=name)
        return imported(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r"needs the package onnxruntime.*pip install \"asdbench\[onnx\]\""):
        check_onnx()
