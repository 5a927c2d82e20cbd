"""The commands that use a trained system: export and detect."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from asdbench.cli.options import Flag, Integer, StoredOptions, Strings, Threshold
from asdbench.cli.output import format_of, new_console, print_line, print_result
from asdbench.errors import InputError

if TYPE_CHECKING:
    from asdbench.driver.detect import FileResult
    from asdbench.engine.clip_stream import ClipLength
    from asdbench.engine.detection import Detection
    from asdbench.engine.machine_detector import MachineDetector

DEFAULT_STORED = StoredOptions()


def export(
    system: str,
    *,
    data: str,
    machines: Strings = (),
    seed: Integer = 0,
    stored: StoredOptions = DEFAULT_STORED,
    threshold: Threshold = "empirical",
    output: Path | None = None,
    onnx: Flag = False,
) -> None:
    """Export a system that has been run as a folder that 'asdbench detect' and MLflow score recordings with.

    The folder holds a model of each machine type, its decision thresholds and a data card.

    Parameters
    ----------
    system
        Name of a system that has been run.
    data
        Name of a registered data set.
    machines
        Machine types (default: all).
    seed
        Random seed of the run.
    threshold
        Decision-threshold method, unless 'asdbench detect' chooses another.
    output
        Folder to write (default: detectors/SYSTEM-DATA). An earlier export there is replaced.
    onnx
        Also write the network of each machine type as an ONNX file, checked against torch.
    """
    from asdbench.api.models import export as export_system
    from asdbench.api.models import load

    folder = export_system(
        system,
        data=data,
        machines=machines,
        seed=seed,
        **stored.to_arguments(),
        threshold=threshold,
        output=output,
        onnx=onnx,
    )
    n_types = len(load(folder).machine_types)
    print_result(f"{folder}: {system}, {n_types} machine type{'' if n_types == 1 else 's'}")


def detect(
    model: Path,
    *inputs: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    machine: str | None = None,
    format: Literal["table", "json"] = "table",
    json: Flag = False,
    rate: Integer | None = None,
    window: float | None = None,
    hop: float | None = None,
    threshold: str | None = None,
    explain: Path | None = None,
) -> int:
    """Score recordings with a system that 'asdbench export' has written.

    A recording that is much longer than the training clips is cut into overlapping clips, and anomalous clips
    are merged into events. Exit codes: 0 all recordings were scored, 1 some could not be read or a picture
    could not be written, 2 none could be read or bad input. An anomaly does not change the exit code.

    Parameters
    ----------
    model
        Folder that 'asdbench export' has written.
    inputs
        WAV and FLAC files, and folders with some; or - for raw 16-bit little-endian mono samples on standard
        input.
    machine
        Machine type of the recordings, if the model knows several.
    format
        table, or json with one line per recording. For standard input, a line per event, or with json a line
        per clip and per event, each as soon as it is known.
    json
        The same as --format json.
    rate
        Sample rate in Hz of standard input (default: 16000).
    window
        Cut recordings into clips of this many seconds (default: the usual duration of training clips, if a
        recording is much longer than that).
    hop
        Seconds between the starts of clips (default: half a clip).
    threshold
        Method of the decision threshold (empirical, gamma, tail), or a number (default: as exported).
    explain
        Also write a picture of the times and frequencies that carry the score: a folder, or for a single
        file a name that ends in .png.
    """
    from asdbench.driver.detect import audio_files, check_pictures
    from asdbench.engine.detector import Detector

    _check_inputs(inputs)
    format = format_of(format, json=json)
    detector = Detector.load(model).machine(machine)
    length = None if window is None and hop is None else detector.length(window, hop)
    limit = _threshold(threshold)
    detector.threshold(limit)  # an unknown method is an error before any file is read
    if Path("-") in inputs:
        _check_stream(inputs, explain)
        return _detect_stream(detector, rate, length, limit, format)
    if rate is not None:
        raise InputError(
            f"--rate {rate} is for samples on standard input; files state their rate, so drop it"
        )
    files = audio_files(inputs)
    pictures = _pictures(files, explain)
    check_pictures(list(pictures.values()))
    return _detect_files(detector, files, pictures, length, limit, format)


def _check_inputs(inputs: Sequence[Path]) -> None:
    if not inputs:
        raise InputError("name a file or folder to score, or - for samples on standard input")
    for path in inputs:
        if str(path).startswith("-") and str(path) != "-":
            raise InputError(f"unknown option {path}; 'asdbench detect --help' lists the options")


def _threshold(text: str | None) -> str | float | None:
    """Return a threshold as a number if it is one."""
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text


def _check_stream(inputs: Sequence[Path], explain: Path | None) -> None:
    if len(inputs) > 1:
        raise InputError("- stands for standard input and takes no further files; score them in another call")
    if explain is not None:
        raise InputError("--explain needs files; standard input is not kept, so save the recording first")
    if sys.stdin is None:
        raise InputError("standard input is closed; pipe raw 16-bit mono samples to this command")
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal; pipe raw 16-bit mono samples to this command")


def _pictures(files: Sequence[Path], explain: Path | None) -> dict[Path, Path]:
    """Return the picture of each file."""
    if explain is None:
        return {}
    if explain.suffix.lower() == ".png":
        if len(files) > 1:
            raise InputError(f"--explain {explain} is one picture for {len(files)} files; name a folder")
        return {files[0]: explain}
    names = [file.stem for file in files]
    return {
        file: explain
        / (f"{file.stem}.png" if names.count(file.stem) == 1 else f"{number:04d}-{file.stem}.png")
        for number, file in enumerate(files)
    }


def _detect_files(
    detector: "MachineDetector",
    files: Sequence[Path],
    pictures: Mapping[Path, Path],
    length: "ClipLength | None",
    threshold: str | float | None,
    format: str,
) -> int:
    from asdbench.driver.detect import detect_files
    from asdbench.report.detections import file_table, file_values, to_line

    results, n_left_out = [], 0
    for found in detect_files(detector, files, length=length, threshold=threshold):
        results.append((found.path, found.result, found.error))
        if format == "json":
            print(to_line(file_values(*results[-1])), flush=True)
        if found.path in pictures and found.result is not None:
            n_left_out += not _explain(detector, found, pictures[found.path], length)
    if format == "table":
        new_console().print(file_table(results, title=_title(detector)))
    n_failed = sum(result is None for _, result, _ in results)
    if not n_failed:
        return 1 if n_left_out else 0
    print(f"asdbench: {n_failed} of {len(results)} files could not be scored", file=sys.stderr)
    return 1 if n_failed < len(results) else 2


def _explain(
    detector: "MachineDetector", found: "FileResult", picture: Path, length: "ClipLength | None"
) -> bool:
    """Write the picture of a file, and return whether it could be written."""
    from asdbench.driver.detect import write_explanation

    try:
        sentence = write_explanation(detector, found, picture, length=length)
    except InputError as error:
        print(f"asdbench: {error}", file=sys.stderr)
        return False
    print_line(f"{picture}: {sentence}", stderr=True)
    return True


def _title(detector: "MachineDetector") -> str:
    return f"{detector.export.system} on {detector.machine_type} of {detector.export.data.name}"


def _detect_stream(
    detector: "MachineDetector",
    rate: int | None,
    length: "ClipLength | None",
    threshold: str | float | None,
    format: str,
) -> int:
    from asdbench.data.audio import check_rate
    from asdbench.driver.detect import detect_stream
    from asdbench.engine.detection import events
    from asdbench.report.detections import clip_values, event_text, event_values, to_line
    from asdbench.spec import SAMPLE_RATE_HZ

    sample_rate_hz = SAMPLE_RATE_HZ if rate is None else rate
    check_rate(sample_rate_hz)
    found = detect_stream(detector, sys.stdin.buffer, sample_rate_hz, length=length, threshold=threshold)

    def shown() -> "Iterator[Detection]":
        for detection in found:
            if format == "json":
                print(to_line({"type": "clip", **clip_values(detection)}), flush=True)
            yield detection

    for event in events(shown()):
        if format == "json":
            print(to_line({"type": "event", **event_values(event)}), flush=True)
        else:
            print(f"{event_text(event)}: score {event.score:.4g}", flush=True)
    return 0
