"""The GPU benchmark: all its rows in miniature on a CPU, and how it reads a profile."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu_profile import read_trace

FOLDER = Path(__file__).parents[2] / "benchmarks"


def kernel(begin: float, duration: float, name: str = "k") -> dict[str, object]:
    return {"cat": "kernel", "name": name, "ts": begin, "dur": duration}


def test_every_row_is_measured_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    file = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--quick", "--out", str(file)])
    gpu.main()
    rows = json.loads(file.read_text())["rows"]
    assert list(rows) == list(gpu.ROWS)
    missing = {name: row["not measured"] for name, row in rows.items() if "not measured" in row}
    assert missing.pop("profile of the training") == "the profile shows no work of a GPU"
    assert not missing
    assert rows["report preset, 7 types x 5 seeds"]["over one job alone"] > 0
    assert rows["random numbers by row, equal on CPU and device"]["normal"] is True
    assert rows["multitask-mel training, batch 128, bfloat16"]["windows/s"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]


def test_a_failed_row_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    def fails(_: object) -> dict[str, object]:
        raise ValueError("no")

    assert gpu.measured(fails, None, 0.0) == {"not measured": "ValueError: no"}
    assert gpu.measured(fails, None, 1000.0) == {"not measured": "no time was left"}


def test_without_a_gpu_it_says_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"torch finds no GPU; with --device cpu --quick"):
        gpu.main()


def test_the_command_measures_the_unpacked_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "asdbench-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("asdbench/__init__.py", "what = 'of the wheel'")
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -m ] && exec {sys.executable} "$@"\n'
        f"shift\nexec {sys.executable} -c \"import asdbench; print(asdbench.what, '$*')\"\n"
    )
    python.chmod(0o755)
    command = ["bash", str(FOLDER / "gpu.sh"), str(next(tmp_path.glob("*.whl"))), "--quick"]
    environment = {**os.environ, "PYTHON": str(python)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == "of the wheel --quick\n", done.stderr


def test_the_idle_share_is_the_time_that_no_kernel_covers() -> None:
    events = [
        kernel(0, 10), kernel(5, 10, "other"), kernel(20, 5),
        {"cat": "gpu_memcpy", "name": "copy", "ts": 16, "dur": 2},
        {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 100},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 3, "dur": 1},
    ]  # fmt: skip
    trace = read_trace(events)
    assert trace.idle_share == pytest.approx(1 - 22 / 25)
    assert trace.kernels == 3
    assert trace.waits["cudaStreamSynchronize"] == 1
    assert trace.kernel_s["k"] == pytest.approx(15e-6)


def test_a_profile_without_a_gpu_has_no_idle_share() -> None:
    assert read_trace([{"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 1}]).idle_share is None
