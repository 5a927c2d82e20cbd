"""Exported detectors as MLflow models of the flavor ``pyfunc``.

The loader is this module (``loader_module``), so that a folder contains no code and no pickled object. A
request has one row per recording: ``audio``, the base64 text of a whole WAV or FLAC file, or ``samples`` and
``sample_rate``; ``machine`` where the detector knows several machine types. It takes no path: whoever can
reach a server would read files of its machine.
"""

import base64
import binascii
import io
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import asdbench
from asdbench.data.audio import BadAudio
from asdbench.engine.detector import Detector
from asdbench.engine.export_record import ExportRecord
from asdbench.engine.recording_scan import RecordingResult, scan_file, scan_samples
from asdbench.errors import InputError
from asdbench.spec import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature


def save_model(content: Path, folder: Path, record: ExportRecord) -> None:
    """Write an MLflow model.

    Parameters
    ----------
    content : folder of ``detector.json`` and the tensors, named ``detector``; it is copied
    folder : folder to write; must not exist
    record : content of ``detector.json``
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.pyfunc
    import pandas as pd

    with _quiet_mlflow():
        mlflow.pyfunc.save_model(
            folder,
            loader_module=__name__,
            data_path=str(content),
            signature=signature(record),
            input_example=pd.DataFrame(_example(record)),
            pip_requirements=[f"asdbench=={asdbench.__version__}"],
            metadata={
                "system": record.system,
                "data": record.data.name,
                "machine_types": list(record.machines),
                "fingerprint": record.data.fingerprint,
                "chosen_on": list(record.chosen_on),
            },
        )


def signature(record: ExportRecord) -> "ModelSignature":
    """Return the columns of requests and answers, and the parameter ``threshold``."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array

    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "audio", required=False),
        ColSpec(Array(DataType.double), "samples", required=False),
        ColSpec(DataType.long, "sample_rate", required=False),
        ColSpec(DataType.string, "machine", required=False),
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "machine_type"),
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.double, "threshold"),
        ColSpec(DataType.string, "decision"),
        ColSpec(DataType.string, "notes"),
    ]
    params = [ParamSpec("threshold", DataType.string, record.threshold_method)]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))


def _example(record: ExportRecord) -> dict[str, list[str]]:
    """Return a request with a tone of one second."""
    import soundfile

    file = io.BytesIO()
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)
    soundfile.write(file, tone, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return {
        "audio": [base64.b64encode(file.getvalue()).decode()],
        "machine": [next(iter(record.machines))],
    }


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _load_pyfunc(data_path: str) -> "DetectorModel":
    """Return the model in a folder; MLflow calls this."""
    return DetectorModel(Detector.load(data_path))


class DetectorModel:
    """A detector with the ``predict`` that MLflow calls."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def predict(self, model_input: "pd.DataFrame", params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Return machine type, score, threshold, decision and notes of each row of a request.

        Raises
        ------
        mlflow.exceptions.MlflowException
            A row that cannot be scored; a server answers with status 400 and the reason.
        """
        import pandas as pd
        from mlflow.exceptions import MlflowException

        threshold = _threshold((params or {}).get("threshold"))
        rows = []
        for number, row in enumerate(model_input.to_dict(orient="records")):
            try:
                rows.append(_answer(self._scan(row, threshold)))
            except InputError as error:
                reason = error.reason if isinstance(error, BadAudio) else str(error)
                raise MlflowException.invalid_parameter_value(f"row {number}: {reason}") from None
        return pd.DataFrame(rows)

    def _scan(self, row: Mapping[str, Any], threshold: str | float | None) -> RecordingResult:
        machine = row.get("machine")
        detector = self.detector.machine(machine if isinstance(machine, str) else None)
        audio, samples = row.get("audio"), row.get("samples")
        if isinstance(audio, str):
            with tempfile.NamedTemporaryFile(suffix=".audio") as file:
                file.write(_decoded(audio))
                file.flush()
                return scan_file(detector, Path(file.name), threshold=threshold)
        if samples is None or np.ndim(samples) == 0:
            raise InputError("there is neither audio (base64 of a WAV or FLAC file) nor samples")
        rate = row.get("sample_rate")
        if rate is None or rate != rate:  # NaN, as pandas fills a column
            raise InputError("samples come without sample_rate; give it in Hz, such as 16000")
        return scan_samples(detector, np.asarray(samples, np.float64), int(rate), threshold=threshold)


def _decoded(audio: str) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except binascii.Error as error:
        raise InputError(f"audio is not base64 ({error}); encode the whole WAV or FLAC file") from None


def _threshold(value: Any) -> Any:
    """Return a threshold as given, which the detector checks: a number in text counts as a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _answer(result: RecordingResult) -> dict[str, object]:
    highest = result.highest
    return {
        "machine_type": highest.machine_type,
        "score": highest.score,
        "threshold": highest.threshold,
        "decision": highest.decision,
        "notes": "; ".join(result.notes),
    }
