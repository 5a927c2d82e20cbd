"""Detections as a table for people and as JSON lines for programs."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asdbench.engine.detection import Detection, SoundEvent
from asdbench.engine.recording_scan import RecordingResult
from asdbench.report.formatting import MISSING
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, numeric


def to_line(values: Mapping[str, Any]) -> str:
    """Return values as one line of JSON.

    >>> to_line({"score": 0.5, "notes": []})
    '{"score": 0.5, "notes": []}'
    """
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()  # a file name may not be UTF-8


def clip_values(detection: Detection) -> dict[str, Any]:
    """Return the result of a clip for JSON."""
    return {
        "start_s": round(detection.start_s, 3),
        "end_s": round(detection.end_s, 3),
        "score": detection.score,
        "decision": detection.decision,
    }


def event_values(event: SoundEvent) -> dict[str, Any]:
    """Return an event for JSON."""
    return {
        "start_s": round(event.start_s, 3),
        "end_s": round(event.end_s, 3),
        "peak_s": round(event.peak_s, 3),
        "score": event.score,
    }


def file_values(path: Path, result: RecordingResult | None, error: str) -> dict[str, Any]:
    """Return the result of a file for JSON: ``error`` says why there is none."""
    if result is None:
        return {"file": str(path), "error": error}
    highest = result.highest
    return {
        "file": str(path),
        "machine_type": highest.machine_type,
        "score": highest.score,
        "threshold": highest.threshold,
        "decision": highest.decision,
        "duration_s": round(result.detections[-1].end_s, 3),
        "components": dict(highest.components),
        "clips": [clip_values(detection) for detection in result.detections],
        "events": [event_values(event) for event in result.events],
        "notes": list(result.notes),
    }


def file_table(results: Sequence[tuple[Path, RecordingResult | None, str]], *, title: str) -> DisplayTable:
    """Return a table with a row for each file, and one for each event of a long recording."""
    names = _short_names([path for path, _, _ in results])
    rows = [
        row
        for name, (_, result, error) in zip(names, results, strict=True)
        for row in _rows(name, result, error)
    ]
    columns = [Column("file"), Column("decision"), *numeric("score", "threshold"), Column("notes")]
    return DisplayTable(columns, rows, title=title)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return paths without the folder that all of them are in.

    >>> _short_names([Path("a/b/c.wav"), Path("a/d.wav")])
    ['b/c.wav', 'd.wav']
    """
    if len({path.is_absolute() for path in paths}) != 1:
        return [shown_name(path) for path in paths]
    common = os.path.commonpath([path.parent for path in paths])
    return [shown_name(os.path.relpath(path, common or ".")) for path in paths]


def shown_name(path: Path | str) -> str:
    r"""Return a file name for people, with replacement characters where it is not UTF-8.

    >>> shown_name("caf\udce9.wav")
    'caf�.wav'
    """
    return os.fsencode(path).decode(errors="replace")


def _rows(name: str, result: RecordingResult | None, error: str) -> list[DisplayRow]:
    if result is None:
        return [DisplayRow([name, "not scored", "", "", error])]
    highest = result.highest
    notes = list(result.notes)
    if len(result.detections) > 1:
        notes.insert(0, f"{len(result.detections)} clips")
    values = [f"{highest.score:.4g}", MISSING if highest.threshold is None else f"{highest.threshold:.4g}"]
    rows = [DisplayRow([name, highest.decision, *values, "; ".join(notes)], highest.is_anomaly)]
    if len(result.detections) > 1:
        rows += [
            DisplayRow([f"  {event_text(event)}", "", f"{event.score:.4g}", "", ""])
            for event in result.events
        ]
    return rows


def event_text(event: SoundEvent) -> str:
    """Return the place of an event for people.

    >>> event_text(SoundEvent(5.0, 20.0, 12.5, 3.0))
    '5.0 to 20.0 s, highest at 12.5 s'
    """
    return f"{event.start_s:.1f} to {event.end_s:.1f} s, highest at {event.peak_s:.1f} s"
