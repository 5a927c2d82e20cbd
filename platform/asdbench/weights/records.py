"""The pretrained encoders that are known, one frozen record each. No other module names an address.

Conventions
-----------
All mirrors of a record hold the same bytes. A revision is a commit where it is known, so that the content
behind an address cannot change; else it is the name of a branch. A SHA-256 or a size that nobody has
published is ``None``: then the first download is trusted, and everything later is compared with it. The
SHA-256 of a record decides; a mirror need not be trusted.

Sources
-------
BEATs: arXiv 2212.09058; a checkpoint of microsoft/unilm, whose own addresses no longer respond. CED: arXiv
2308.11957. Dasheng: arXiv 2406.06992. EAT: arXiv 2401.03497. ECHO: arXiv 2508.14689. wav2vec 2.0, HuBERT
and WavLM: arXiv 2006.11477, 2106.07447 and 2110.13900, as torchaudio's ``pipelines`` distributes them. Token
grids follow from the patch and hop sizes in the papers. Of two licenses that sources give for WavLM, MIT and
CC BY-SA 3.0, the stricter one is stated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from asdbench.errors import unknown_name

Format = Literal["safetensors", "torch"]
Hyperparameter = int | float | str


@dataclass(frozen=True)
class License:
    """A license: its SPDX identifier, and where its text is."""

    name: str
    url: str


@dataclass(frozen=True)
class TokenGrid:
    """What each layer of an encoder gives for a clip: tokens in time and frequency.

    Attributes
    ----------
    layers : number of layers whose tokens can be read
    dim : width of a token
    hop_ms : distance of tokens in time
    bands : number of tokens at one time; ``None`` where the sampling rate decides
    """

    layers: int
    dim: int
    hop_ms: float
    bands: int | None


@dataclass(frozen=True)
class WeightsRecord:
    """The weights of a pretrained encoder.

    Attributes
    ----------
    id : name in commands and settings, and of the network in ``asdbench.nn.encoders.ARCHITECTURES``
    mirrors : addresses of the file, tried in turn; at least two
    repository, revision : who publishes it, and which version this is
    sha256, size_bytes : of the file; ``None`` if nobody has published them
    format : ``"safetensors"``, or ``"torch"``: a checkpoint that is read with ``weights_only=True``
    license : under which it is published
    training_data : what the encoder was trained on
    sample_rate_hz : of the waveform that it takes; ``None`` if it takes any
    grid : its tokens
    hyperparameters : sizes of the network that the tensors belong to, for information: the id alone names
        what ``asdbench.nn.encoders.build`` builds
    root : key of the tensors within the checkpoint; ``None`` if the checkpoint holds nothing else
    prefix : what the names of the encoder's tensors begin with; it is removed, and other tensors (such as a
        classifier's) are left out

    Examples
    --------
    >>> named("ced-tiny").grid.dim
    192
    """

    id: str
    mirrors: tuple[str, ...]
    repository: str
    revision: str
    format: Format
    license: License
    training_data: str
    grid: TokenGrid
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=lambda: MappingProxyType({}))
    sha256: str | None = None
    size_bytes: int | None = None
    sample_rate_hz: int | None = 16_000
    root: str | None = None
    prefix: str = ""

    @property
    def file_name(self) -> str:
        """Name of the file in the data home."""
        return f"{self.id}.{'safetensors' if self.format == 'safetensors' else 'pt'}"


def named(weights_id: str) -> WeightsRecord:
    """Return the record of an id; raise :class:`InputError` with the nearest id if there is none.

    Examples
    --------
    >>> named("beats-iter").id
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: no weights 'beats-iter'; did you mean 'beats-iter3'?
    """
    if weights_id not in RECORDS:
        raise unknown_name("weights", weights_id, RECORDS)
    return RECORDS[weights_id]


def _hugging_face(repository: str, revision: str, file: str) -> tuple[str, ...]:
    hosts = ("https://huggingface.co", "https://hf-mirror.com")
    return tuple(f"{host}/{repository}/resolve/{revision}/{file}" for host in hosts)


def _torchaudio(file: str) -> tuple[str, ...]:
    hosts = ("https://download.pytorch.org", "https://s3.amazonaws.com/pytorch")
    return tuple(f"{host}/torchaudio/models/{file}" for host in hosts)


def _size(dim: int, heads: int) -> Mapping[str, Hyperparameter]:
    return MappingProxyType({"dim": dim, "depth": 12, "heads": heads})


_APACHE = License("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")
_MIT = License("MIT", "https://opensource.org/license/mit")
_CC_BY_SA = License("CC-BY-SA-3.0", "https://creativecommons.org/licenses/by-sa/3.0/")
_SPEECH_GRID = TokenGrid(layers=12, dim=768, hop_ms=20.0, bands=1)


def _ced(size: str, revision: str, sha256: str, dim: int, heads: int) -> WeightsRecord:
    repository = f"mispeech/ced-{size}"
    return WeightsRecord(
        id=f"ced-{size}",
        mirrors=_hugging_face(repository, revision, "model.safetensors"),
        repository=repository,
        revision=revision,
        sha256=sha256,
        format="safetensors",
        license=_APACHE,
        training_data="AudioSet, with its labels",
        grid=TokenGrid(layers=12, dim=dim, hop_ms=160.0, bands=4),
        hyperparameters=_size(dim, heads),
        prefix="encoder.",
    )


def _speech(
    weights_id: str,
    file: str,
    repository: str,
    training_data: str,
    *,
    license: License = _MIT,
    sha256: str | None = None,
    size_bytes: int | None = None,
) -> WeightsRecord:
    return WeightsRecord(
        id=weights_id,
        mirrors=_torchaudio(file),
        repository=repository,
        revision=file,
        sha256=sha256,
        size_bytes=size_bytes,
        format="torch",
        license=license,
        training_data=training_data,
        grid=_SPEECH_GRID,
        hyperparameters=_size(768, 12),
    )


_ALL = (
    WeightsRecord(
        id="beats-iter3",
        mirrors=_hugging_face(
            "lpepino/beats_ckpts", "5b53b0404df452a3a607d7e67687227730e5bad1", "BEATs_iter3.pt"
        ),
        repository="microsoft/unilm",
        revision="BEATs_iter3",
        sha256="8d1b234032a9ccff353612dc6c20982346dc2968b205b79d97303eb5e77bfb34",
        size_bytes=361_499_833,
        format="torch",
        license=_MIT,
        training_data="AudioSet, without labels",
        grid=TokenGrid(layers=12, dim=768, hop_ms=160.0, bands=8),
        hyperparameters=_size(768, 12),
        root="model",
    ),
    _ced(
        "tiny",
        "ace276d29dd0bb3f3517b0fa8cf300738c409019",
        "0e086f0cd62814c6def89001f3f25193f75955696f6975ef6800af31d00d6dd7",
        192,
        3,
    ),
    _ced(
        "mini",
        "26c3ebcae85d4330f4fc26763f029539a3afcda0",
        "e4070d02ca53ec7a1df83bbf779a0e70bc2bbc0a9bacde6330e1dc37c990b215",
        256,
        4,
    ),
    _ced(
        "small",
        "06bb40c5ec089e96867ebc5246be02441f4a71e4",
        "a495e319a620dec4c8b7ca7bb927667ed68169a9efc1a943ccbf5d5c6f9c0c71",
        384,
        6,
    ),
    _ced(
        "base",
        "db3e14a8db4c21b56b165261c39649741a900e7f",
        "314935693ed1dcef07576ca0c41277c51c642f3847bc5eb03918c5277eb79af9",
        768,
        12,
    ),
    WeightsRecord(
        id="dasheng-base",
        mirrors=_hugging_face("mispeech/dasheng-base", "main", "model.safetensors"),
        repository="mispeech/dasheng-base",
        revision="main",
        format="safetensors",
        license=_APACHE,
        training_data="AudioSet, ACAV100M, MTG-Jamendo and VGGSound, without labels",
        grid=TokenGrid(layers=12, dim=768, hop_ms=40.0, bands=1),
        hyperparameters=_size(768, 12),
        prefix="encoder.",
    ),
    WeightsRecord(
        id="eat-base",
        mirrors=_hugging_face("worstchan/EAT-base_epoch30_pretrain", "main", "model.safetensors"),
        repository="worstchan/EAT-base_epoch30_pretrain",
        revision="main",
        sha256="8623072d09aac4f3ad1168b4fed3a24e4f68fe1da25b9fe733375efb237e5f48",
        format="safetensors",
        license=_MIT,
        training_data="AudioSet, without labels",
        grid=TokenGrid(layers=12, dim=768, hop_ms=160.0, bands=8),
        hyperparameters=_size(768, 12),
        prefix="model.",
    ),
    WeightsRecord(
        id="echo-small",
        mirrors=_hugging_face("yucongzh/echo-small-0824", "main", "model.safetensors"),
        repository="yucongzh/echo-small-0824",
        revision="main",
        format="safetensors",
        license=_MIT,
        training_data="AudioSet, MTG-Jamendo and Freesound, without labels",
        sample_rate_hz=None,
        grid=TokenGrid(layers=12, dim=384, hop_ms=160.0, bands=None),
        hyperparameters=_size(384, 6),
    ),
    _speech(
        "wav2vec2-base",
        "wav2vec2_fairseq_base_ls960.pth",
        "facebookresearch/fairseq",
        "LibriSpeech (960 h of speech), without labels",
    ),
    _speech(
        "hubert-base",
        "hubert_fairseq_base_ls960.pth",
        "facebookresearch/fairseq",
        "LibriSpeech (960 h of speech), without labels",
    ),
    _speech(
        "wavlm-base-plus",
        "wavlm_base_plus.pth",
        "microsoft/unilm",
        "Libri-Light, GigaSpeech and VoxPopuli (94,000 h of speech), without labels",
        license=_CC_BY_SA,
        sha256="136a3e720c04f2c77bf7a4dc6a3868b14d5a2c145a988114b733cb1a8428be98",
        size_bytes=377_604_347,
    ),
)
RECORDS: Mapping[str, WeightsRecord] = MappingProxyType({record.id: record for record in _ALL})
