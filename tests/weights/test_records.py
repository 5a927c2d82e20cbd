import re

import pytest
import torch

from asdbench.errors import InputError
from asdbench.features.torchaudio_import import torchaudio
from asdbench.nn.encoders import ARCHITECTURES, build
from asdbench.weights.records import RECORDS, WeightsRecord, named

_EXPECTED = {
    "beats-iter3", "ced-tiny", "ced-mini", "ced-small", "ced-base", "dasheng-base", "eat-base", "echo-small",
    "wav2vec2-base", "hubert-base", "wavlm-base-plus",
}  # fmt: skip


def test_all_encoders_are_registered() -> None:
    assert set(RECORDS) == _EXPECTED


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.id)
def test_a_record_is_complete(record: WeightsRecord) -> None:
    assert len(set(record.mirrors)) >= 2
    assert all(url.startswith("https://") for url in record.mirrors)
    assert record.sha256 is None or re.fullmatch("[0-9a-f]{64}", record.sha256)
    assert record.license.url.startswith("https://")
    assert record.training_data


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.id)
def test_a_record_describes_its_architecture(record: WeightsRecord) -> None:
    with torch.device("meta"):
        encoder = build(record.id, **record.hyperparameters)
    grid = encoder.grid(160_000)
    assert (encoder.dim, encoder.depth) == (record.grid.dim, record.grid.layers)
    assert record.grid.hop_ms == pytest.approx(1000 * grid.token_s)
    assert record.grid.bands in (None, grid.frequency)
    assert record.prefix == ARCHITECTURES[record.id].prefix


def test_checksums_are_no_copies_of_one_another() -> None:
    known = [record.sha256 for record in RECORDS.values() if record.sha256]
    assert len(set(known)) == len(known) >= 7


def test_torchaudio_still_names_its_files_so() -> None:
    bundles = {
        "wav2vec2-base": torchaudio.pipelines.WAV2VEC2_BASE,
        "hubert-base": torchaudio.pipelines.HUBERT_BASE,
        "wavlm-base-plus": torchaudio.pipelines.WAVLM_BASE_PLUS,
    }
    for weights_id, bundle in bundles.items():
        assert named(weights_id).mirrors[0].endswith(f"/torchaudio/models/{bundle._path}")


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'dasheng-base'"):
        named("dasheng_base")
