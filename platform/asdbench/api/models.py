"""Trained systems as detectors that score recordings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from asdbench.api.reports import names_of
from asdbench.api.surroundings import results_of
from asdbench.driver.export import ExportRequest, export_system
from asdbench.engine.detector import Detector
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.stored_runs import StoredRunOptions


def export(
    system: str,
    *,
    data: str,
    machines: Sequence[str] = (),
    seed: int = 0,
    preset: str | None = None,
    settings: Mapping[str, object] | None = None,
    pseudo_anomalies_from: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    output: Path | str | None = None,
    onnx: bool = False,
    home: Path | str | None = None,
    storage: str | None = None,
) -> Path:
    """Export a system that has been run as a folder that :func:`asdbench.load` and MLflow load.

    The folder holds a model of each machine type, its decision thresholds and a data card.

    Parameters
    ----------
    system
        Name of a system that has been run.
    data
        Name of a registered data set.
    machines
        Machine types; all by default.
    seed
        Random seed of the run.
    preset, settings, pseudo_anomalies_from
        Options of the run.
    threshold
        Method of the decision threshold, unless another is chosen when detecting.
    output
        Folder to write, by default ``detectors/SYSTEM-DATA``; an earlier export there is replaced.
    onnx
        Also write the network of each machine type as an ONNX file, checked against torch.
    home, storage
        The data home, and where results are; by default those of the command line.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        A name does not exist, the system has not been run with these options, or ``output`` is a folder with
        other content.

    Examples
    --------
    >>> options = {"settings": {"epochs": 2, "hidden": 8}, "output": recordings.parent / "detector"}
    >>> folder = asdbench.export("baseline-mse", data="demo", **options)
    >>> asdbench.load(folder).machine_types
    ('fan', 'valve')
    """
    run = StoredRunOptions(preset, settings or {}, pseudo_anomalies_from)
    folder = Path("detectors") / f"{system}-{data}" if output is None else Path(output)
    request = ExportRequest(system, data, names_of(machines), seed, run, threshold, onnx)
    export_system(request, results_of(home, storage), folder)
    return folder


def load(folder: Path | str) -> Detector:
    """Load a detector that :func:`asdbench.export` has written.

    Loading runs no code from the folder; the system must be installed.

    Parameters
    ----------
    folder
        The folder of the export.

    Returns
    -------
    Detector
        Its ``score`` takes the samples of a recording and returns the anomaly score and the decision.

    Raises
    ------
    InputError
        The folder is no exported detector, or is damaged or changed.

    Examples
    --------
    >>> import soundfile
    >>> options = {"settings": {"epochs": 2, "hidden": 8}, "output": recordings.parent / "detector"}
    >>> detector = asdbench.load(asdbench.export("baseline-mse", data="demo", **options))
    >>> samples, rate = soundfile.read(sorted(recordings.rglob("fan/test/*.wav"))[0])
    >>> detection = detector.score(samples, rate, machine="fan")
    >>> detection.is_anomaly == (detection.score > detection.threshold)
    True
    """
    return Detector.load(folder)
