"""The network of a detector as an ONNX file, for machines without torch: windows of a clip to components.

The input is Float32["row frame mel"], all windows of one clip: log-mel in dB as
`asdbench.data.clip_windows.stored_mel` computes it, in z-scores where the system standardizes. The outputs
are the components that the system's fusion uses, one number each, before their standardization. Whether a
network can be converted is found by trying; the result is compared with torch on clips of several lengths.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asdbench.data.clip_windows import scoring_batches
from asdbench.engine.machine_detector import MachineDetector, Model, probe_clip
from asdbench.errors import InputError
from asdbench.spec import SAMPLE_RATE_HZ
from asdbench.system import UNKNOWN, ClipBatch, System

TOLERANCE = 1e-4  # of an output, relative to its size where that is more than 1
_CHECKED_S = (2.0, 5.0, 10.0)


class ClipNetwork(nn.Module):
    """The components of one clip, as a function of its windows."""

    def __init__(self, system: System, names: tuple[str, ...]) -> None:
        super().__init__()
        self.system, self.names = system, names

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Return one number per component, from Float[Tensor, "row frame mel"]."""
        zeros = torch.zeros(windows.shape[0], dtype=torch.long)
        batch = ClipBatch(windows, zeros, n_clips=1, machine=zeros, section=zeros + UNKNOWN)
        if self.system.has_window_components():
            rows = self.system.window_components(batch)
            return tuple(rows[name].mean(dim=0) for name in self.names)
        clips = self.system.components(batch)
        return tuple(clips[name].squeeze(0) for name in self.names)


def check_onnx() -> None:
    """Raise :class:`InputError` unless the packages that ONNX takes are installed."""
    try:
        import onnx
        import onnxruntime
        import onnxscript

        _ = onnx, onnxruntime, onnxscript
    except ImportError as error:
        raise InputError(
            f"--onnx needs the package {error.name}, which is not installed; run "
            f"'pip install \"asdbench[onnx]\"'"
        ) from error


def onnx_network(detector: MachineDetector) -> bytes:
    """Return the content of the ONNX file of a detector.

    Raises
    ------
    InputError
        The packages are missing, the system cannot be converted, or its network gives other numbers.
    """
    check_onnx()
    name = detector.export.system
    if len(detector.models) > 1 or detector.record.fusion is not None:
        raise InputError(
            f"{name} is an ensemble and has no network of its own; export its members with --onnx instead"
        )
    (model,) = detector.models
    if model.input_spec.encoder is not None:
        raise InputError(
            f"{name} reads the embeddings of a pretrained encoder, which --onnx does not hold; drop --onnx"
        )
    if model.input_spec.waveform:
        raise InputError(
            f"{name} reads waveforms besides its windows, which --onnx does not support; drop --onnx"
        )
    if model.input_spec.window_frames is None:
        raise InputError(f"{name} reads whole clips, and --onnx supports windows only; drop --onnx")
    pooling = model.system.window_pooling(model.system.config)
    if model.system.has_window_components() and pooling != "mean":
        raise InputError(
            f"{name} pools windows by window_pooling={pooling}, and --onnx supports mean only; drop --onnx"
        )
    network = ClipNetwork(model.system, tuple(model.record.fusion.weights)).eval()
    content = _converted(network, _windows(model, _CHECKED_S[0]), name)
    _check_equal(network, content, model, name)
    return content


def _windows(model: Model, duration_s: float) -> Tensor:
    clip = probe_clip(round(duration_s * SAMPLE_RATE_HZ))
    (batch,) = scoring_batches([clip], model.input_spec, model.standardization, section=UNKNOWN)
    return batch.windows


def _converted(network: ClipNetwork, windows: Tensor, name: str) -> bytes:
    try:
        with _quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as temporary:
            program = torch.onnx.export(
                network,
                (windows,),
                input_names=["windows"],
                output_names=list(network.names),
                dynamic_shapes={"windows": {0: torch.export.Dim.DYNAMIC}},
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            file = Path(temporary) / "network.onnx"
            program.save(file)
            return file.read_bytes()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"the network of {name} cannot be converted to ONNX ({reason}); drop --onnx"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _check_equal(network: ClipNetwork, content: bytes, model: Model, name: str) -> None:
    runner = OnnxNetwork(content)
    for duration_s in _CHECKED_S:
        windows = _windows(model, duration_s)
        with torch.no_grad():
            expected = [float(value) for value in network(windows)]
        for output, value, wanted in zip(network.names, runner(windows.numpy()), expected, strict=True):
            if not abs(value - wanted) <= TOLERANCE * max(1.0, abs(wanted)):
                raise InputError(
                    f"the ONNX network of {name} gives {value:.6g} as {output!r} where torch gives "
                    f"{wanted:.6g}; drop --onnx"
                )


class OnnxNetwork:
    """A network in an ONNX file, run by onnxruntime on one core.

    Parameters
    ----------
    content : the file, or its content
    """

    def __init__(self, content: bytes | Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        given = content if isinstance(content, bytes) else str(content)
        self._session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        self.names = tuple(output.name for output in self._session.get_outputs())

    def __call__(self, windows: NDArray[np.float32]) -> list[float]:
        """Return the components of the clip with these windows, Float32[ndarray, "row frame mel"]."""
        return [float(value) for value in self._session.run(None, {"windows": windows})]
