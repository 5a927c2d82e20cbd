import copy
import pickle
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import soxr
import torch

from asdbench import registry
from asdbench.data import embeddings
from asdbench.data.sets import catalog
from asdbench.engine.detector import Detector
from asdbench.engine.export_record import RECORD, digest_of, read_record
from asdbench.engine.recording_scan import scan_samples
from asdbench.engine.result_record import HeldOutNormals
from asdbench.errors import InputError
from asdbench.report.detections import file_table, file_values
from asdbench.testing import tiny_encoder
from asdbench.weights import records, store
from tests.exported import DISCRIMINATOR, Exported, export_tiny, tiny_workspace

RATE = 16_000


@pytest.fixture(scope="module")
def detector(exported: Exported) -> Detector:
    return Detector.load(exported.folder)


@pytest.mark.parametrize("machine_type", ["fan", "valve"])
def test_scores_of_test_files_are_those_of_the_store(exported: Exported, machine_type: str) -> None:
    detector = Detector.load(exported.folder)
    clips = exported.test_clips(machine_type)
    for path, score in clips.select("path", "score").iter_rows():
        samples, rate = soundfile.read(exported.data.root / path, dtype="float32")
        found = detector.score(samples, rate, machine=machine_type)
        assert found.score == pytest.approx(score, rel=1e-5, abs=1e-5)
        assert found.start_s == 0
        assert found.end_s == pytest.approx(len(samples) / RATE)


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("baseline-maha", {"epochs": 1, "hidden": 8, "n_mels": 16}),
        ("adversarial", DISCRIMINATOR),
        ("ensemble", {"members": ("baseline-mse", "baseline-maha"), "epochs": 1, "hidden": 8, "n_mels": 16}),
        ("ensemble", {"members": ("baseline-maha", "baseline-maha@maha_mode=per_frame:seed=1"), "epochs": 1,
                      "hidden": 8, "n_mels": 16}),
        ("ensemble", {"members": ("baseline-mse", "adversarial"), "join": "components", **DISCRIMINATOR,
                      "epochs": 1}),
        ("multitask-combined", {"steps": 2, "batch_size": 4, "width": 8, "ffn": 8, "blocks": 1, "n_mels": 16,
                                "time_stride": 8, "fusion_scale": "log"}),
    ],
    ids=["training_of", "standardized", "ensemble", "variants", "ensemble of components", "waveform"],
)  # fmt: skip
def test_every_kind_of_system_scores_as_stored(
    tmp_path: Path, system: str, settings: dict[str, object]
) -> None:
    made = export_tiny(tiny_workspace(tmp_path), tmp_path / "detector", system, settings, "valve")
    detector = Detector.load(made.folder)
    for path, score in made.test_clips("valve").select("path", "score").iter_rows():
        found = detector.score(soundfile.read(made.data.root / path, dtype="int16")[0], RATE)
        assert found.score == pytest.approx(score, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("far_microphone", ["ignore", "subtract"])
def test_an_encoder_is_referred_to_and_scores_as_stored(
    tmp_path: Path, far_microphone: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = tiny_workspace(tmp_path)
    for path in (tmp_path / "clips").glob("*/*/*.wav"):
        near = soundfile.read(path)[0]
        far = np.random.default_rng(len(near)).normal(0, 0.1, len(near))
        soundfile.write(path, np.stack([near + far, far], axis=1), RATE, subtype="PCM_16")
    catalog.add(workspace, "tiny", tmp_path / "clips", channels="near")
    settings = {"encoder": tiny_encoder.ID, "far_microphone": far_microphone}
    with tiny_encoder.installed(workspace):
        made = export_tiny(workspace, tmp_path / "detector", "encoder-knn", settings, "valve")
        detector = Detector.load(made.folder, workspace=workspace)
        for path, score in made.test_clips("valve").select("path", "score").iter_rows():
            samples = soundfile.read(made.data.root / path, dtype="int16")[0].T
            assert detector.score(samples, RATE).score == pytest.approx(score, rel=1e-3, abs=1e-3)
            (found,) = detector.stream([samples], RATE, window_s=9.0)
            assert found.score == pytest.approx(score, rel=1e-3, abs=1e-3)
        if far_microphone == "subtract":
            with pytest.raises(InputError, match="valve has 1 channel, and encoder-knn reads the far"):
                detector.score(samples[0], RATE)
        weights = store.weights_path(workspace, records.named(tiny_encoder.ID))
        assert detector.record.machines["valve"].models[0].weights == {
            tiny_encoder.ID: store.sha256_of(weights)
        }
        with monkeypatch.context() as patched:
            patched.setattr(registry, "platform_hash", lambda *_: "corrected")
            assert Detector.load(made.folder, workspace=workspace).machine()
            assert "the installed code of encoder-knn differs" in caplog.text
            normalize = embeddings.normalize_level
            patched.setattr(embeddings, "normalize_level", lambda wave: normalize(wave) ** 3)
            with pytest.raises(InputError, match="the installed code of encoder-knn gives other scores"):
                Detector.load(made.folder, workspace=workspace).machine()
        tiny_encoder.install(workspace, seed=1)
        with pytest.raises(InputError, match="with which this detector was exported; add the right file"):
            Detector.load(made.folder, workspace=workspace).machine()
        weights.unlink()
        with pytest.raises(InputError, match=r"'tiny-encoder' are missing .* 'asdbench weights get"):
            Detector.load(made.folder, workspace=workspace).machine()


def test_the_mean_of_window_scores_is_the_score(detector: Detector, exported: Exported) -> None:
    found = detector.score(exported.recording("fan"), RATE, machine="fan")
    windows = found.windows
    assert windows is not None
    assert windows.score.mean() == pytest.approx(found.score, rel=1e-4)
    assert windows.score.std() > 0
    assert windows.start_s[0] == 0
    assert windows.end_s[-1] == found.end_s
    assert (windows.end_s > windows.start_s).all()
    assert windows.start_s[windows.score.argmax()] < found.peak_s < windows.end_s[windows.score.argmax()]


def test_without_a_threshold_there_is_no_decision(detector: Detector, exported: Exported) -> None:
    fan = detector.machine("fan")
    few = HeldOutNormals(0, 0, 4, "recordings", True)
    stored = msgspec.structs.replace(fan.record.thresholds["empirical"], threshold=None)
    stored = msgspec.structs.replace(stored, held_out={"source": few})
    other = copy.copy(fan)
    other.record = msgspec.structs.replace(
        fan.record, thresholds={**fan.record.thresholds, "empirical": stored}
    )
    found = scan_samples(other, exported.recording("fan"), RATE)
    assert (found.highest.threshold, found.highest.decision, found.events) == (None, "none", [])
    assert "too few normal clips to set a threshold: 4 recordings, needed 9" in found.notes
    assert file_values(Path("a.wav"), found, "")["threshold"] is None
    assert file_table([(Path("a.wav"), found, "")], title="fan").rows[0].cells[1:2] == ["none"]
    given = scan_samples(other, exported.recording("fan"), RATE, threshold=found.highest.score - 1)
    assert given.highest.decision == "anomaly"
    assert not any("too few" in note for note in given.notes)


def test_a_threshold_is_a_method_or_a_number(detector: Detector, exported: Exported) -> None:
    samples = exported.recording("fan")
    stored = detector.record.machines["fan"].thresholds
    assert detector.score(samples, RATE, machine="fan").threshold == stored["empirical"].threshold
    assert (
        detector.score(samples, RATE, machine="fan", threshold="gamma").threshold == stored["gamma"].threshold
    )
    score = detector.score(samples, RATE, machine="fan").score
    assert detector.score(samples, RATE, machine="fan", threshold=score - 1).decision == "anomaly"
    assert detector.score(samples, RATE, machine="fan", threshold=score).decision == "normal"
    with pytest.raises(InputError, match="no threshold method 'gama'; did you mean 'gamma'"):
        detector.score(samples, RATE, machine="fan", threshold="gama")
    assert detector.score(samples, RATE, machine="fan", threshold=np.float32(2)).threshold == 2  # type: ignore[arg-type]
    for bad in (np.nan, -np.inf, True, np.True_, ""):
        with pytest.raises(InputError, match="threshold"):
            detector.score(samples, RATE, machine="fan", threshold=bad)  # type: ignore[arg-type]


def test_a_machine_type_must_be_known_and_chosen(detector: Detector) -> None:
    with pytest.raises(InputError, match="knows 2 machine types; choose one with --machine: fan, valve"):
        detector.machine()
    with pytest.raises(InputError, match="no machine type in this detector: 'fen'; did you mean 'fan'"):
        detector.machine("fen")
    assert detector.machine("fan") is detector.machine("fan")


def test_other_sample_rates_and_channels_are_converted(detector: Detector, exported: Exported) -> None:
    samples = exported.recording("fan")
    score = detector.score(samples, RATE, machine="fan").score
    higher = soxr.resample(samples, RATE, 32_000, quality="VHQ")
    assert detector.score(higher, 32_000, machine="fan").score == pytest.approx(score, abs=0.5)
    stereo = np.stack([samples * 2, np.zeros_like(samples)])
    assert detector.score(stereo, RATE, machine="fan").score == pytest.approx(score, abs=1e-3)
    integers = np.rint(samples * 32768).astype(np.int16)
    assert detector.score(integers, RATE, machine="fan").score == score


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(0), RATE, r"samples have shape \(0,\); give a non-empty array"),
        (np.zeros((2, 2, 2)), RATE, "samples have shape"),
        (np.zeros((16_000, 2)), RATE, "more channels than samples; transpose"),
        (np.full(16_000, np.nan), RATE, "NaN or infinite"),
        (np.zeros(16_000, np.uint8), RATE, "of type uint8; give floats"),
        (np.zeros(16_000), 0, "the sample rate is 0 Hz"),
        (np.zeros(16_000), "16000", "the sample rate is '16000'; give a whole number"),
        (np.zeros(16_000), 44_100.5, "the sample rate is 44100.5 Hz"),
    ],
)
def test_bad_samples_are_named(detector: Detector, samples: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector.score(samples, rate, machine="fan")


@pytest.mark.parametrize(
    ("samples", "note"),
    [
        (np.zeros(16_000), "silent"),
        (np.sign(np.sin(np.arange(16_000))), "clipped"),
        (np.full(40, 0.1), "too short for a window"),
        (0.1 * np.sin(np.arange(80_000)), "5.0 s long, while training clips are 0.7 to 1.5 s long"),
    ],
)
def test_doubtful_audio_is_scored_and_noted(detector: Detector, samples: np.ndarray, note: str) -> None:
    found = detector.score(samples, RATE, machine="fan")
    assert np.isfinite(found.score)
    assert note in " ".join(found.notes)


def test_a_stream_is_scored_clip_by_clip(detector: Detector, exported: Exported) -> None:
    samples = np.concatenate([exported.recording("fan", place=place) for place in range(4)])
    blocks = np.array_split(samples, 37)
    found = list(detector.stream(blocks, RATE, machine="fan", window_s=1.0, hop_s=0.25))
    assert [one.start_s for one in found[:-1]] == [0.25 * k for k in range(len(found) - 1)]
    assert found[-1].end_s == pytest.approx(len(samples) / RATE)
    for one in found:
        clip = samples[round(one.start_s * RATE) : round(one.end_s * RATE)]
        assert detector.score(clip, RATE, machine="fan").score == pytest.approx(one.score)


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code was executed')",)


def test_no_code_of_a_folder_is_executed(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder / "data" / "detector", tmp_path / "detector")
    content = pickle.dumps(_Attack())
    record = read_record(folder)
    name, old = record.machines["fan"].file, record.machines["fan"].digest
    (folder / name).write_bytes(content)
    _replace(folder, old, digest_of(content))
    with pytest.raises(
        InputError, match=r"the tensors in .* do not fit baseline-mse .Weights only load failed"
    ):
        Detector.load(folder).machine("fan")


def _replace(folder: Path, old: str, new: str) -> None:
    """Change a record as somebody would who knows how it is sealed."""
    import msgspec

    from asdbench.engine.export_record import ExportRecord, to_json

    text = (folder / RECORD).read_text().replace(old, new)
    (folder / RECORD).write_bytes(to_json(msgspec.json.decode(text, type=ExportRecord)))


def test_other_code_of_a_system_is_noticed(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "source_hash", lambda name: "other code")
    Detector.load(exported.folder).machine("fan")
    assert "the installed code of baseline-mse differs" in caplog.text
    system = registry.get("baseline-mse")
    before = system.residuals  # type: ignore[attr-defined]
    monkeypatch.setattr(system, "residuals", lambda self, batch: 2 * before(self, batch))
    with pytest.raises(InputError, match="the installed code of baseline-mse gives other scores"):
        Detector.load(exported.folder).machine("fan")


def test_loading_changes_no_random_state(exported: Exported) -> None:
    before = torch.get_rng_state()
    Detector.load(exported.folder).machine("fan")
    assert before.equal(torch.get_rng_state())
