import json
from pathlib import Path

from asdbench.engine.detection import Detection
from asdbench.engine.recording_scan import RecordingResult
from asdbench.report.detections import file_table, file_values, to_line


def clip(start_s: float, score: float) -> Detection:
    return Detection("fan", start_s, start_s + 2, score, 0.5, {"mse": score})


def test_a_file_for_programs_has_its_clips_and_events() -> None:
    result = RecordingResult((clip(0, 0.1), clip(1, 0.9), clip(2, 0.7)), ("resampled",))
    values = json.loads(to_line(file_values(Path("a.wav"), result, "")))
    assert values["score"] == 0.9
    assert [one["decision"] for one in values["clips"]] == ["normal", "anomaly", "anomaly"]
    assert values["events"] == [{"start_s": 1, "end_s": 4, "peak_s": 2, "score": 0.9}]
    assert (values["duration_s"], values["notes"]) == (4, ["resampled"])
    assert json.loads(to_line(file_values(Path("b.wav"), None, "empty"))) == {
        "file": "b.wav",
        "error": "empty",
    }


def test_a_table_has_events_below_a_long_recording_only() -> None:
    one = RecordingResult((clip(0, 0.9),), ())
    long = RecordingResult((clip(0, 0.1), clip(2, 0.9)), ())
    table = file_table(
        [(Path("x/a.wav"), one, ""), (Path("x/y/b.wav"), long, ""), (Path("x/c.wav"), None, "empty")],
        title="",
    )
    assert [str(row.cells[0]).strip() for row in table.rows] == [
        "a.wav", "y/b.wav", "2.0 to 4.0 s, highest at 3.0 s", "c.wav",
    ]  # fmt: skip
    assert [row.cells[1] for row in table.rows] == ["anomaly", "anomaly", "", "not scored"]
    assert table.rows[1].cells[4] == "2 clips"
    assert table.rows[3].cells[4] == "empty"
