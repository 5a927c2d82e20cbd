"""Embeddings are computed once by all that they depend on, and stored as the network computes them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from asdbench.data import embeddings, feature_store
from asdbench.data.embeddings import ClipEncoder, clip_encoder
from asdbench.data.feature_store import FeatureSpec
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.spec import SAMPLE_RATE_HZ, EncoderSpec, MelSpec
from asdbench.testing import tiny_encoder, write_tiny

SPEC = EncoderSpec(tiny_encoder.ID)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with tiny_encoder.registered():
        yield


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    workspace = Workspace.from_home(tmp_path / "home")
    clips = write_tiny(tmp_path / "clips", source_clips=4, target_clips=1, test_clips_per_cell=1)
    tiny_encoder.install(workspace)
    return catalog.add(workspace, "tiny", clips)


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("this is computed already")


def features(data: DataSet, spec: EncoderSpec = SPEC) -> FeatureSpec:
    return FeatureSpec(data.name, "fan", MelSpec(hop_samples=512), min_frames=1, encoder=spec)


def test_stored_tokens_are_those_of_the_network_and_are_computed_once(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = embeddings.embeddings(data, "fan", SPEC)
    encoder = clip_encoder(data.workspace, SPEC)
    waveforms = feature_store.waveforms(data, "fan")
    assert sorted(shard.clip_ids) == sorted(waveforms.clip_ids)
    for clip_id in shard.clip_ids:
        tokens = shard.tokens(int(clip_id))
        samples = waveforms.clip(int(clip_id))
        assert tokens.dtype == np.float16
        assert tokens.shape == encoder.grid(len(samples)) == (tokens.shape[0], 4, 16)
        wave = torch.from_numpy(np.resize(samples, max(len(samples), SAMPLE_RATE_HZ)) / 32768).float()
        level = wave.square().mean().sqrt()
        (expected,) = encoder.network((wave / level * 0.1)[None], [2])
        found = torch.from_numpy(tokens.astype(np.float32)).flatten(0, 1)
        torch.testing.assert_close(found, expected[0], atol=5e-3, rtol=5e-3)
    monkeypatch.setattr(ClipEncoder, "encode", refuse)
    assert np.array_equal(embeddings.embeddings(data, "fan", SPEC).rows, shard.rows)


def test_clips_of_equal_length_are_encoded_together_and_as_they_are_alone(data: DataSet) -> None:
    encoder = clip_encoder(data.workspace, SPEC)
    clips = [np.random.default_rng(seed).integers(-900, 900, 17_000).astype(np.int16) for seed in range(3)]
    together = encoder.encode(clips)
    for clip, tokens in zip(clips, together, strict=True):
        torch.testing.assert_close(encoder.encode_clip(clip), tokens, atol=2e-3, rtol=2e-3)


def test_a_device_encodes_more_clips_at_a_time_and_fewer_where_its_memory_runs_out(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, sizes = ClipEncoder.encode, list[int]()

    def counting(self: ClipEncoder, clips: Sequence[Any], far: Sequence[Any] = ()) -> torch.Tensor:
        sizes.append(len(clips))
        if len(clips) > 1:
            raise torch.OutOfMemoryError
        return honest(self, clips, far)

    expected = np.array(embeddings.embeddings(data, "fan", SPEC).rows, np.float32)
    embeddings.embeddings_path(data, "fan", SPEC).unlink()
    monkeypatch.setattr(embeddings, "by_length", lambda samples, most, equal: [[*range(len(samples))]])
    monkeypatch.setattr(ClipEncoder, "encode", counting)
    found = embeddings.embeddings(data, "fan", SPEC, device="cpu:0").rows  # in batches as on a GPU
    assert max(sizes) > 5
    np.testing.assert_allclose(np.array(found, np.float32), expected, atol=2e-3, rtol=2e-3)


def test_what_the_content_depends_on_names_the_file(data: DataSet) -> None:
    variants = [
        SPEC,
        replace(SPEC, layer=1),
        replace(SPEC, normalize_level=False),
        replace(SPEC, far_microphone="subtract"),
    ]
    paths = {embeddings.embeddings_path(data, "fan", spec) for spec in variants}
    tiny_encoder.install(data.workspace, seed=1)
    paths.add(embeddings.embeddings_path(data, "fan", SPEC))
    assert len(paths) == 5
    assert embeddings.embeddings_path(data, "valve", SPEC) not in paths


def test_layers_count_from_both_ends_and_differ(data: DataSet) -> None:
    last, same, first = (
        embeddings.embeddings(data, "fan", replace(SPEC, layer=layer)).rows for layer in (-1, 2, 1)
    )
    assert np.array_equal(last, same)
    assert not np.allclose(last, first, atol=0.1)


def test_a_layer_is_stored_once_from_whichever_end_it_is_counted(data: DataSet) -> None:
    def path(layer: int) -> Path:
        return embeddings.embeddings_path(data, "fan", replace(SPEC, layer=layer))

    assert path(-1) == path(2) != path(-2) == path(1)
    with pytest.raises(InputError, match="'tiny-encoder' has no layer 3; choose from 1 to 2, or from -1"):
        path(3)


def test_embeddings_are_features_with_their_size_and_progress(data: DataSet) -> None:
    spec = features(data)
    assert not feature_store.is_built(data, spec)
    mels_alone = replace(spec, encoder=None)
    announced = feature_store.bytes_to_build(data, [spec]) - feature_store.bytes_to_build(data, [mels_alone])
    reports: list[tuple[int, int]] = []
    feature_store.build(data, spec, progress=lambda clips, total: reports.append((clips, total)))
    clips = data.clips.filter(machine_type="fan").height
    assert reports[-1] == (3 * clips, 3 * clips)
    assert feature_store.is_built(data, spec)
    path = embeddings.embeddings_path(data, "fan", SPEC)
    assert path in feature_store.paths(data, spec)
    assert path.name in feature_store.key_of(data, spec)
    assert 0.5 < embeddings.embeddings(data, "fan", SPEC).rows.nbytes / announced < 2


def test_missing_weights_are_named_with_the_command_that_gets_them(data: DataSet) -> None:
    with pytest.raises(InputError, match=r"'beats-iter3' are missing .*asdbench weights get beats-iter3"):
        embeddings.embeddings(data, "fan", EncoderSpec("beats-iter3"))


def test_damaged_embeddings_are_computed_again(data: DataSet) -> None:
    before = embeddings.embeddings(data, "fan", SPEC).rows.copy()
    path = embeddings.embeddings_path(data, "fan", SPEC)
    path.write_bytes(path.read_bytes()[:-1000])
    assert np.array_equal(embeddings.embeddings(data, "fan", SPEC).rows, before)


def test_the_far_microphone_is_subtracted_and_must_exist(data: DataSet, tmp_path: Path) -> None:
    subtract = replace(SPEC, far_microphone="subtract")
    with pytest.raises(InputError, match="have 1 channel, and no far microphone to subtract"):
        embeddings.embeddings(data, "fan", subtract)
    clean = embeddings.embeddings(data, "fan", SPEC).rows.astype(np.float32)
    for path in (tmp_path / "clips").glob("*/*/*.wav"):
        near = soundfile.read(path)[0]
        far = np.random.default_rng(len(near)).normal(0, 0.1, len(near))
        soundfile.write(path, np.stack([near + 0.5 * far, far], axis=1), SAMPLE_RATE_HZ, subtype="PCM_16")
    stereo = catalog.add(data.workspace, "stereo", tmp_path / "clips", channels="near")
    noisy, subtracted = (
        embeddings.embeddings(stereo, "fan", spec).rows.astype(np.float32) for spec in (SPEC, subtract)
    )
    assert np.abs(subtracted - clean).mean() < 0.8 * np.abs(noisy - clean).mean()
    both = catalog.add(data.workspace, "both", tmp_path / "clips", channels="both")
    with pytest.raises(InputError, match="keeps the channel 'both'"):
        embeddings.embeddings(both, "fan", subtract)
