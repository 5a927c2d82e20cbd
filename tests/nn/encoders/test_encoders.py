"""Encoders against outputs and parameter names of the authors' implementations, and against torchaudio.

``outputs.json`` and ``checkpoint_names.json`` come from the authors' code: microsoft/unilm's ``beats``,
jimbozhang/hf_transformers_custom_model_ced, the package dasheng 0.0.9, cwx-worst-one/EAT (its modules in the
order of the published ``eat_model.py``) and yucongzh/ECHO. The outputs are of small encoders with the weights
of :mod:`asdbench.testing.encoders` for the input :func:`sound`: 8 numbers evenly spaced over the last layer's
output.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from asdbench.errors import InputError
from asdbench.features.torchaudio_import import torchaudio
from asdbench.nn.encoders import ARCHITECTURES, Encoder, TokenGrid, build, eat, load, published_name
from asdbench.nn.encoders.encoder import band_of_tokens
from asdbench.nn.encoders.spectra import KaldiFbank, MelSpectrogram
from asdbench.testing.encoders import SMALL, random_state, random_tensor
from asdbench.weights.records import RECORDS, WeightsRecord

SPEECH = ["wav2vec2-base", "hubert-large", "wavlm-base", "wavlm-large"]
FAMILIES = ["beats-iter3", "ced-tiny", "dasheng-base", "eat-base", "echo-small", "wavlm-large"]
OUTPUTS = json.loads(Path(__file__).with_name("outputs.json").read_text())
CHECKPOINTS = json.loads(Path(__file__).with_name("checkpoint_names.json").read_text())


def sound(rows: int, samples: int) -> Tensor:
    """Return a tone of 440 Hz with amplitude 0.2 in uniform noise up to 1/8."""
    times_s = torch.arange(samples, dtype=torch.float64) / 16_000
    tone = 0.2 * torch.sin(2 * math.pi * 440 * times_s)
    return tone.float() + random_tensor("waveform", torch.empty(rows, samples)) / 2


def small(architecture: str, **settings: object) -> Encoder:
    return load(architecture, random_state(architecture), **{**SMALL[architecture], **settings})


def last(encoder: Encoder, waveform: Tensor) -> Tensor:
    return encoder(waveform, [encoder.depth])[0]


def shapes(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the shapes by name, with one entry for equal parameters of all layers."""
    names = {re.sub(r"(layers|blocks)\.\d+\.", r"\1.*.", name): value for name, value in state.items()}
    return {name: "x".join(map(str, value.shape)) or "scalar" for name, value in names.items()}


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.id)
def test_weights_that_are_known_have_an_architecture(record: WeightsRecord) -> None:
    with torch.device("meta"):
        encoder = build(record.id)
    grid, described = encoder.grid(160_000), record.grid
    assert (encoder.depth, encoder.dim) == (described.layers, described.dim)
    assert (grid.token_s * 1000, grid.frequency) == (described.hop_ms, described.bands or grid.frequency)
    assert record.prefix == ARCHITECTURES[record.id].prefix


@pytest.mark.parametrize("case", OUTPUTS, ids=lambda case: f"{case['architecture']}-{case['samples']}")
def test_output_is_that_of_the_authors_code(case: dict[str, Any]) -> None:
    output = last(
        small(case["architecture"], **case["settings"]), sound(case["rows"], case["samples"])
    ).flatten()
    places = torch.linspace(0, len(output) - 1, 8).long()
    torch.testing.assert_close(output[places], torch.tensor(case["output"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", CHECKPOINTS)
def test_names_and_shapes_are_those_of_the_published_checkpoint(architecture: str) -> None:
    names = ARCHITECTURES[architecture]
    with torch.device("meta"):
        state = build(architecture).state_dict()
    unused = names.unused or ("none",)
    published = {n: shape for n, shape in CHECKPOINTS[architecture].items() if not n.startswith(unused)}
    assert shapes({names.prefix + name: value for name, value in state.items()}) == published
    assert len(state) == len(published) + 11 * sum("*" in name for name in published)


@pytest.mark.parametrize("architecture", ["ced-tiny"])
def test_random_checkpoint_has_all_that_the_published_one_has(architecture: str) -> None:
    assert shapes(random_state(architecture, small=False)) == CHECKPOINTS[architecture]


FACTORIES = {
    name: name.replace("-plus", "").replace("-", "_") for name in ARCHITECTURES if name not in CHECKPOINTS
}


@pytest.mark.parametrize("architecture", FACTORIES)
def test_names_and_shapes_are_those_of_torchaudio(architecture: str) -> None:
    with torch.device("meta"):
        ours = build(architecture).state_dict()
        theirs = getattr(torchaudio.models, FACTORIES[architecture])().state_dict()
    assert {name: value.shape for name, value in ours.items()} == {n: v.shape for n, v in theirs.items()}


@pytest.mark.parametrize("architecture", SPEECH)
def test_output_is_that_of_torchaudio(architecture: str) -> None:
    encoder, waveform = small(architecture), sound(2, 8_000)
    reference = torchaudio.models.Wav2Vec2Model(encoder.feature_extractor, encoder.encoder)
    standardizes = ARCHITECTURES[architecture].settings.get("norm_first", False)
    expected, _ = reference.extract_features(
        torch.nn.functional.layer_norm(waveform, (8_000,)) if standardizes else waveform
    )
    for ours, theirs in zip(encoder(waveform, [1, 2]), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_standardizing_pipelines_of_torchaudio_are_known() -> None:
    bundles = {"WAV2VEC2_BASE", "WAV2VEC2_LARGE", "WAV2VEC2_LARGE_LV60K", "HUBERT_BASE", "HUBERT_LARGE"}
    for bundle in bundles | {"HUBERT_XLARGE", "WAVLM_BASE", "WAVLM_LARGE"}:
        settings = ARCHITECTURES[bundle.lower().replace("_", "-")].settings
        pipeline = getattr(torchaudio.pipelines, bundle)
        assert settings.get("norm_first", False) == pipeline._normalize_waveform, bundle
        assert pipeline.sample_rate == 16_000


def test_names_of_older_checkpoints_of_torchaudio_load() -> None:
    state = random_state("wavlm-base")
    assert "encoder.transformer.pos_conv_embed.conv.weight_g" in state
    assert {published_name(name) for name in small("wavlm-base").state_dict()} == state.keys()


@pytest.mark.parametrize("window", ["povey", "hanning"])
def test_filter_banks_are_those_of_kaldi(window: str) -> None:
    import torchaudio.compliance.kaldi as kaldi

    waveform = sound(1, 16_000) * 2**15
    expected = kaldi.fbank(waveform, num_mel_bins=128, sample_frequency=16_000, window_type=window)
    fbank = KaldiFbank(128, window)(waveform)[0]
    # cells of little energy differ, since torchaudio computes the weights of bins in float32
    torch.testing.assert_close(fbank, expected, atol=1e-3, rtol=0)
    assert (fbank - expected).abs().mean() < 1e-5


def test_mel_spectrogram_is_that_of_torchaudio() -> None:
    waveform, transforms = sound(1, 16_000), torchaudio.transforms
    mel = transforms.MelSpectrogram(16_000, n_fft=512, win_length=512, hop_length=160, n_mels=64)
    expected = transforms.AmplitudeToDB(top_db=120)(mel(waveform)).transpose(1, 2)
    torch.testing.assert_close(MelSpectrogram()(waveform), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_grid_is_that_of_the_output(architecture: str) -> None:
    encoder = small(architecture)
    for samples in (7_000, 9_999, 163_000):  # the last is longer than a chunk of CED and Dasheng
        assert last(encoder, sound(1, samples)).shape == (1, encoder.grid(samples).tokens, encoder.dim)


def test_echo_encodes_a_long_clip_in_chunks() -> None:
    encoder = small("echo-small")
    first, rest = 1_999 * 160 + 400, 8_000  # samples of 2000 frames
    waveform = sound(1, first + rest)
    waveform[:, :first] -= waveform[:, :first].mean()
    waveform[:, first:] -= waveform[:, first:].mean()
    whole = band_of_tokens(last(encoder, waveform), encoder.grid(first + rest))
    chunk = band_of_tokens(last(encoder, waveform[:, :first]), encoder.grid(first))
    assert (whole.shape[1], chunk.shape[1]) == (129, 125)
    torch.testing.assert_close(whole[:, :125], chunk, atol=1e-4, rtol=0)


def test_eat_encodes_a_long_clip_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eat, "_MAX_TIME", 4)
    encoder = small("eat-base")
    first = 63 * 160 + 400  # samples of 64 frames
    whole = band_of_tokens(last(encoder, sound(1, 16_000)), encoder.grid(16_000))
    chunk = band_of_tokens(last(encoder, sound(1, 16_000)[:, :first]), encoder.grid(first))
    assert (whole.shape[1], chunk.shape[1]) == (7, 4)
    torch.testing.assert_close(whole[:, :4], chunk, atol=1e-4, rtol=0)


def test_tokens_go_by_time_then_by_band() -> None:
    bands = band_of_tokens(torch.arange(12.0).reshape(1, 12, 1), TokenGrid(time=3, frequency=4, token_s=0.1))
    assert bands[0, :, :, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_clip_is_encoded_alike_alone_and_in_a_batch(architecture: str) -> None:
    encoder = small(architecture)
    waveform = sound(3, 8_000) * torch.tensor([[1.0], [0.01], [0.0]])
    together = last(encoder, waveform)
    assert together.isfinite().all()
    alone = torch.cat([last(encoder, row[None]) for row in waveform])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_training_mode_changes_neither_output_nor_buffers(architecture: str) -> None:
    encoder = small(architecture)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    expected = last(encoder, sound(2, 8_000))
    torch.testing.assert_close(last(encoder.train(), sound(2, 8_000)), expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("architecture", FAMILIES)
def test_bfloat16_is_near_full_precision(architecture: str) -> None:
    encoder = small(architecture)
    expected = last(encoder, sound(1, 8_000))
    with torch.autocast("cpu", torch.bfloat16):
        output = last(encoder, sound(1, 8_000))
    assert (output.float() - expected).abs().mean() < 0.1 * expected.std()


def test_layers_come_in_the_order_asked_for_and_none_above_is_computed() -> None:
    encoder = small("ced-tiny")
    first, second = encoder(sound(1, 8_000), [1, 2])
    again = encoder(sound(1, 8_000), [2, 1, 2])
    assert all(torch.equal(a, b) for a, b in zip(again, [second, first, second], strict=True))
    encoder.blocks[1] = None
    assert torch.equal(encoder(sound(1, 8_000), [1])[0], first)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_clip_that_is_too_short_is_refused(architecture: str) -> None:
    with pytest.raises(InputError, match=r"a clip of 0\.006 s is too short"):
        small(architecture)(torch.zeros(1, 100), [1])


@pytest.mark.parametrize("layers", [[0], [3], [-1], []])
def test_a_layer_that_does_not_exist_is_refused(layers: list[int]) -> None:
    with pytest.raises(InputError, match=r"1 to 2"):
        small("eat-base")(sound(1, 8_000), layers)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'ced-tiny'"):
        build("ced-tiney")


CED = random_state("ced-tiny")


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({n: v for n, v in CED.items() if n != "encoder.norm.bias"}, r"it lacks norm.bias \(1 in all\)"),
        ({**CED, "encoder.other": torch.zeros(1)}, r"it also has other \(1 in all\)"),
        ({**CED, "encoder.norm.bias": torch.zeros(2)}, r"it has other shapes of norm.bias \(1 in all\)"),
        (random_state("beats-iter3"), "it lacks blocks.0"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(checkpoint: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load("ced-tiny", checkpoint, **SMALL["ced-tiny"])


def test_the_file_of_beats_may_hold_its_tensors_under_model() -> None:
    nested = load("beats-iter3", {"cfg": {}, "model": random_state("beats-iter3")}, **SMALL["beats-iter3"])
    assert torch.equal(last(nested, sound(1, 8_000)), last(small("beats-iter3"), sound(1, 8_000)))


def test_layers_of_beats_share_their_distances() -> None:
    layers = build("beats-iter3", **SMALL["beats-iter3"]).encoder.layers
    assert len({layer.self_attn.relative_attention_bias.weight.data_ptr() for layer in layers}) == 1


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_loaded_encoder_is_frozen_and_has_the_weights(architecture: str) -> None:
    encoder, state = small(architecture), random_state(architecture)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    prefix = ARCHITECTURES[architecture].prefix
    assert all(torch.equal(v, state[prefix + published_name(n)]) for n, v in encoder.state_dict().items())


@pytest.mark.parametrize("architecture", FAMILIES)
def test_weights_are_in_memory_once_and_in_single_precision(architecture: str) -> None:
    state = random_state(architecture)
    encoder = load(architecture, state, **SMALL[architecture])
    given = {value.data_ptr() for value in state.values()}
    assert all(parameter.data_ptr() in given for parameter in encoder.parameters())
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    half = load(architecture, halves, **SMALL[architecture])
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
