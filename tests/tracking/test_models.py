"""Exported detectors through MLflow: loaded in this process, and behind a server."""

import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile

from asdbench.engine.detector import Detector
from tests.exported import Exported

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
RATE = 16_000


@pytest.fixture(scope="module")
def model(exported: Exported) -> object:
    return mlflow.pyfunc.load_model(str(exported.folder))


def encoded(samples: np.ndarray, format: str = "FLAC", rate: int = RATE) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()


def one_hz() -> str:
    """A recording whose header says 1 Hz."""
    return encoded(np.zeros(160_000), "WAV", 1)


def test_the_folder_is_a_model_without_code(exported: Exported) -> None:
    model = mlflow.models.Model.load(str(exported.folder))
    flavor = model.flavors["python_function"]
    assert (flavor["loader_module"], flavor["code"]) == ("asdbench.tracking.models", None)
    assert model.signature.inputs.input_names() == ["audio", "samples", "sample_rate", "machine"]
    assert model.signature.outputs.input_names()[:4] == ["machine_type", "score", "threshold", "decision"]
    assert model.metadata["machine_types"] == ["fan", "valve"]
    assert (exported.folder / "requirements.txt").read_text().splitlines()[1].startswith("asdbench==")
    assert not list(exported.folder.rglob("*.pkl"))


def test_audio_and_samples_give_the_stored_score(model: object, exported: Exported) -> None:
    import pandas as pd

    samples = exported.recording("valve")
    rows = [
        {"audio": encoded(samples), "machine": "valve"},
        {"audio": encoded(samples, "WAV"), "machine": "valve"},
        {"samples": samples.astype(float).tolist(), "sample_rate": RATE, "machine": "valve"},
    ]
    expected = exported.test_clips("valve")["score"][0]
    for row in rows:
        answer = model.predict(pd.DataFrame([row]))  # type: ignore[attr-defined]
        assert answer["score"][0] == pytest.approx(expected, rel=1e-5)
        assert answer["machine_type"][0] == "valve"
        assert answer["decision"][0] == ("anomaly" if expected > answer["threshold"][0] else "normal")


def test_the_input_example_is_scored(model: object) -> None:
    example = model.input_example  # type: ignore[attr-defined]
    assert np.isfinite(model.predict(example)["score"][0])  # type: ignore[attr-defined]


def test_the_threshold_is_a_parameter(model: object, exported: Exported) -> None:
    import pandas as pd

    row = pd.DataFrame([{"audio": encoded(exported.recording("fan")), "machine": "fan"}])
    stored = Detector.load(exported.folder).record.machines["fan"].thresholds
    for given, expected in (("gamma", stored["gamma"].threshold), ("-3.5", -3.5)):
        assert model.predict(row, params={"threshold": given})["threshold"][0] == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"audio": "no base64!", "machine": "fan"}, "row 0: audio is not base64"),
        ({"audio": base64.b64encode(b"RIFF").decode(), "machine": "fan"}, "row 0: not audio, or cut inside"),
        ({"audio": "/etc/passwd", "machine": "fan"}, "row 0: "),
        ({"machine": "fan"}, "row 0: there is neither audio"),
        ({"samples": [0.1] * 10, "machine": "fan"}, "row 0: samples come without sample_rate"),
        ({"samples": [0.1] * 10, "sample_rate": 1, "machine": "fan"}, "row 0: the sample rate is 1 Hz"),
        ({"audio": one_hz(), "machine": "fan"}, "row 0: its sample rate is 1 Hz"),
        ({"samples": [0.1] * 10, "sample_rate": 16_000}, "row 0: this detector knows 2 machine types"),
        ({"samples": [float("nan")], "sample_rate": 16_000, "machine": "fan"}, "row 0: samples are NaN"),
    ],
)
def test_a_bad_row_is_named(model: object, row: dict[str, object], message: str) -> None:
    import pandas as pd

    with pytest.raises(mlflow.exceptions.MlflowException, match=message) as caught:
        model.predict(pd.DataFrame([row]))  # type: ignore[attr-defined]
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("threshold", ["nan", "-inf", "gama"])
def test_a_bad_threshold_is_named(model: object, exported: Exported, threshold: str) -> None:
    import pandas as pd

    row = pd.DataFrame([{"audio": encoded(exported.recording("fan")), "machine": "fan"}])
    with pytest.raises(mlflow.exceptions.MlflowException, match=f"threshold .*{threshold}"):
        model.predict(row, params={"threshold": threshold})  # type: ignore[attr-defined]


def test_the_documented_request_is_scored(model: object, exported: Exported, tmp_path: Path) -> None:
    """The shell builds the body without an argument that holds the whole file."""
    import pandas as pd

    soundfile.write(tmp_path / "a.wav", np.tile(exported.recording("fan"), 10), RATE)
    page = (Path(__file__).parents[2] / "docs" / "detect.md").read_text()
    (command,) = re.findall(r"^(\{ printf .*?) \|\n  curl .* -d @-$", page, flags=re.DOTALL | re.MULTILINE)
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    body = json.loads(done.stdout)
    answer = model.predict(pd.DataFrame(body["dataframe_records"]), params=body["params"])  # type: ignore[attr-defined]
    assert answer["machine_type"].tolist() == ["fan"]


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of ``mlflow models serve`` with the exported folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(exported.folder)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env={**os.environ, "PATH": path}, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(address, process, log)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{address}/ping", timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
        assert process.poll() is None, log.read_text()
    pytest.fail(log.read_text())


@pytest.mark.cluster
def test_a_server_scores_what_a_client_sends(server: str, exported: Exported) -> None:
    rows = [{"audio": encoded(exported.recording(name)), "machine": name} for name in ("fan", "valve")]
    request = {"dataframe_records": rows, "params": {"threshold": "tail"}}
    answer = requests.post(f"{server}/invocations", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    thresholds = Detector.load(exported.folder).record.machines
    for row, name in zip(found, ("fan", "valve"), strict=True):
        assert row["score"] == pytest.approx(exported.test_clips(name)["score"][0], rel=1e-5)
        assert row["threshold"] == thresholds[name].thresholds["tail"].threshold
    samples = exported.recording("fan").astype(float).tolist()
    request = {"dataframe_records": [{"samples": samples, "sample_rate": RATE, "machine": "fan"}]}
    answer = requests.post(f"{server}/invocations", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["score"] == pytest.approx(found[0]["score"], rel=1e-5)


@pytest.mark.cluster
def test_a_server_answers_a_bad_request_with_the_reason(server: str, exported: Exported) -> None:
    for bad in ("no base64!", str(exported.test_file("fan"))):
        request = {"dataframe_records": [{"audio": bad, "machine": "fan"}]}
        answer = requests.post(f"{server}/invocations", json=request, timeout=60)
        assert answer.status_code == 400
        assert "row 0: audio is not base64" in json.loads(answer.text)["message"]
