from pathlib import Path

import pytest
import soundfile

from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.testing import conformance, write_tiny


def test_what_the_tiny_data_set_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data = catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "a"))
    assert data.machine_types == conformance.MACHINE_TYPES
    counts = catalog.describe(data).counts.drop("machine_type", "section", "subset")
    assert sorted(set(counts.rows())) == [
        ("test", "source", 4), ("test", "target", 4), ("train", "source", 21), ("train", "target", 3),
    ]  # fmt: skip
    assert data.clips["duration_s"].min() >= 0.6  # type: ignore[operator]
    assert data.clips["duration_s"].max() <= 1.5  # type: ignore[operator]
    assert data.clips["content_hash"].n_unique() == 64
    assert catalog.truth(catalog.load(Workspace.from_environment(), "tiny"))["anomaly"].sum() == 8
    again, other = write_tiny(tmp_path / "b"), write_tiny(tmp_path / "c", seed=1)
    for path in data.clips["path"]:
        assert (again / path).read_bytes() == (data.root / path).read_bytes() != (other / path).read_bytes()
        assert abs(soundfile.read(data.root / path)[0]).max() < 1
