"""wav2vec 2.0, HuBERT and WavLM, by torchaudio's models.

Baevski et al., NeurIPS 2020, arXiv:2006.11477; Hsu et al., 2021, arXiv:2106.07447; Chen et al., 2022,
arXiv:2110.13900. Convolutions over the waveform, one token every 20 ms, then a transformer. Layouts of the
parameters as in the checkpoints of ``torchaudio.pipelines``. The layers are those of torchaudio's
``extract_features``: without the norm that ends the large models in speech recognition.

Known departures: no dropout and no layer drop; where the pipeline standardizes the waveform, each clip is
standardized on its own (torchaudio takes the whole batch).
"""

from collections.abc import Iterator
from itertools import accumulate

from torch import Tensor
from torch.nn.functional import layer_norm

from asdbench.nn.encoders.encoder import Encoder, TokenGrid

_CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # samples of a kernel, stride


class Speech(Encoder):
    """A speech encoder of torchaudio.

    Parameters
    ----------
    wavlm : attention with gated biases by distance (WavLM)
    dim, depth, heads, hidden : length of a token, layers, attention heads, width of the hidden layers
    norm_first : standardized waveforms, layer norm in each convolution, and before attention, not after
    conv_bias : biases of the convolutions
    channels : channels of the convolutions
    """

    def __init__(
        self,
        *,
        wavlm: bool = False,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        norm_first: bool = False,
        conv_bias: bool = False,
        channels: int = 512,
    ) -> None:
        from asdbench.features.torchaudio_import import torchaudio

        super().__init__()
        self.dim, self.depth, self.standardizes = dim, depth, norm_first
        build = torchaudio.models.wavlm_model if wavlm else torchaudio.models.wav2vec2_model
        distances = {"encoder_num_buckets": 320, "encoder_max_distance": 800} if wavlm else {}
        model = build(
            extractor_mode="layer_norm" if norm_first else "group_norm",
            extractor_conv_layer_config=[(channels, *kernel) for kernel in _CONVOLUTIONS],
            extractor_conv_bias=conv_bias,
            encoder_embed_dim=dim,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=128,
            encoder_pos_conv_groups=16,
            encoder_num_layers=depth,
            encoder_num_heads=heads,
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=hidden,
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=norm_first,
            encoder_layer_drop=0.0,
            aux_num_out=None,
            **distances,
        )
        self.feature_extractor = model.feature_extractor
        self.encoder = model.encoder

    def grid(self, samples: int) -> TokenGrid:
        """Return the token grid: 1 band, a time step every 0.02 s."""
        steps = accumulate(
            _CONVOLUTIONS, lambda n, conv: max(0, (n - conv[0]) // conv[1] + 1), initial=samples
        )
        return TokenGrid(list(steps)[-1], 1, token_s=0.02)

    def layer_outputs(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the outputs of the layers, each Float[Tensor, "row token dim"]."""
        if self.standardizes:
            waveform = layer_norm(waveform, waveform.shape[-1:])
        features, _ = self.feature_extractor(waveform, None)
        transformer = self.encoder.transformer
        tokens, bias = transformer._preprocess(self.encoder.feature_projection(features)), None
        for layer in transformer.layers:
            tokens, bias = layer(tokens, None, position_bias=bias)
            yield tokens
