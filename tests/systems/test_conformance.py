"""Every system of ``systems/`` passes the conformance suite."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import systems
from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.training_step import fast_bfloat16
from asdbench.errors import InputError
from asdbench.spec import SAMPLE_RATE_HZ
from asdbench.system import TrainingFacts
from asdbench.testing import EnsembleConformance, SystemConformance, tiny_encoder
from asdbench.testing.conformance import run_job

_OTHER_PRECISION = "float32" if fast_bfloat16(torch.device("cpu")) else "bfloat16"
_SMALL = {
    "steps": 24,
    "batch_size": 8,
    "width": 16,
    "heads": 2,
    "ffn": 16,
    "blocks": 1,
    "embedding": 4,
    "n_mels": 16,
    "window_frames": 32,
    "window_hop_frames": 16,
}


class TestBaselineMse(SystemConformance):
    system = "baseline-mse"
    settings = {"epochs": 2, "hidden": 16}  # noqa: RUF012 - ClassVar in SystemConformance


class TestBaselineMaha(SystemConformance):
    system = "baseline-maha"
    settings = {"epochs": 2, "hidden": 16}  # noqa: RUF012 - ClassVar in SystemConformance


class TestBaselineMahaPerFrame(SystemConformance):
    system = "baseline-maha-per-frame"
    settings = {"epochs": 2, "hidden": 16}  # noqa: RUF012 - ClassVar in SystemConformance


class TestSpectraGauss(SystemConformance):
    system = "spectra-gauss"


class TestSpectraKnn(SystemConformance):
    system = "spectra-knn"
    settings_for = {"density_neighbors": {"backend": "knn-density"}}  # noqa: RUF012


class TestMultitaskMel(SystemConformance):
    system = "multitask-mel"
    settings = _SMALL
    alternatives = {"heads": 4, "gradient_clip": 0.01, "precision": _OTHER_PRECISION}  # noqa: RUF012
    settings_for = {  # noqa: RUF012
        "neighbors": {"backend": "knn"},
        "density_neighbors": {"backend": "knn-density"},
        "gmm_components": {"backend": "gmm"},
        "gmm_reg_covar": {"backend": "gmm"},
        "lof_neighbors": {"backend": "lof"},
        "covariance": {"backend": "mahalanobis"},
        "ridge": {"backend": "gaussian"},
        "balanced_domains": {"backend": "gaussian"},
    }


class TestMultitaskCombined(TestMultitaskMel):
    system = "multitask-combined"


class TestAdversarial(SystemConformance):
    system = "adversarial"
    settings = {"cvae_steps": 4, "adversarial_steps": 4, "batch_size": 8, "precision": "float32"}  # noqa: RUF012
    alternatives = {"beta_warmup_share": 1.0, "window_hop_frames": 64, "precision": "bfloat16"}  # noqa: RUF012
    durations_s = (2.7, 4.0)


class TestEncoderKnn(SystemConformance):
    system = "encoder-knn"
    settings = {"encoder": tiny_encoder.ID}  # noqa: RUF012
    alternatives = {"layer": 1, "encoder": tiny_encoder.OTHER_ID}  # noqa: RUF012
    weights = staticmethod(tiny_encoder.installed)

    def test_every_setting_changes_scores_or_cost(self, finished, job, setting_name, tmp_path) -> None:
        if setting_name != "far_microphone":
            super().test_every_setting_changes_scores_or_cost(finished, job, setting_name)
            return
        folder = shutil.copytree(finished.resolved.data.root, tmp_path / "stereo")
        for path in folder.glob("*/*/*.wav"):
            near = soundfile.read(path)[0]
            soundfile.write(path, np.stack([near, np.roll(near, 1) + 0.1], axis=1), SAMPLE_RATE_HZ)
        catalog.add(finished.workspace, "stereo", folder, channels="near")
        scores = []
        for value in ("ignore", "subtract"):
            stereo = replace(job, data="stereo", settings=self.settings | {"far_microphone": value})
            scores.append(run_job(stereo, finished.workspace, finished.store).fused["score"])
        assert not scores[0].equals(scores[1])


class TestEncoderLora(SystemConformance):
    system = "encoder-lora"
    settings = {"encoder": tiny_encoder.ID, "epochs": 2, "batch_size": 16, "window_s": 0.5, "rank": 2}  # noqa: RUF012
    alternatives = {  # noqa: RUF012
        "encoder": tiny_encoder.OTHER_ID, "window_s": 0.7, "precision": _OTHER_PRECISION, "margin": 0.4
    }  # fmt: skip
    weights = staticmethod(tiny_encoder.installed)


class TestAdaCos(SystemConformance):
    system = "adacos"
    settings = {  # noqa: RUF012
        **{"steps": 6, "batch_size": 16, "channels": 2, "embedding": 8, "clusters": 2},
        **{"window_frames": 12, "window_hop_frames": 12},
    }
    alternatives = {"mixup": 0.0, "precision": "bfloat16", "target_rows": 0}  # noqa: RUF012
    settings_for = {  # noqa: RUF012
        "neighbors": {"backend": "knn"},
        "gmm_components": {"backend": "gmm"},
        "gmm_reg_covar": {"backend": "gmm"},
        "lof_neighbors": {"backend": "lof"},
        "covariance": {"backend": "mahalanobis"},
        "ridge": {"backend": "gaussian"},
        "balanced_domains": {"backend": "gaussian"},
    }


class TestEnsemble(EnsembleConformance):
    system = "ensemble"
    settings = {"members": "multitask-mel,baseline-mse", "epochs": 2, "hidden": 16} | {
        f"multitask-mel.{name}": value for name, value in _SMALL.items()
    }
    alternatives = {"members": "baseline-mse,multitask-mel,baseline-maha", "weights": "3,1"}  # noqa: RUF012


def test_every_system_is_tested() -> None:
    """In this file, or in one that 'asdbench new-system' has written next to it."""
    files = Path(systems.__file__).parent.glob("*.py")
    expected = {file.stem.replace("_", "-") for file in files if not file.name.startswith("_")}
    tests = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    suites = r"^class Test\w+\(\w+\):\n(?: .*\n|\n)*?    system = \"([\w-]+)\"$"
    assert set(re.findall(suites, tests, flags=re.MULTILINE)) == expected


@pytest.mark.parametrize("suite", [TestAdaCos, TestEncoderLora])
def test_a_classifier_of_joint_labels_needs_two(suite: type[SystemConformance]) -> None:
    with tiny_encoder.registered():
        configured = registry.configure(suite.system, suite.settings)
        told = rf"{suite.system} learns to tell .*\(machine types: fan\) have the same; choose a system"
        with pytest.raises(InputError, match=told):
            configured.build_trained(TrainingFacts(("00",), {}, ("fan",), groups=1))
        assert configured.build_trained(TrainingFacts(("00",), {}, ("fan",), groups=2))
