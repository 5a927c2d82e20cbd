"""A data home, and a registry whose records can be exchanged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asdbench.io.workspace import Workspace
from asdbench.weights import records, store
from asdbench.weights.records import WeightsRecord

Register = Callable[[WeightsRecord], WeightsRecord]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.from_home(tmp_path / "home")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Put a record in the place of the one with its id."""

    def put(record: WeightsRecord) -> WeightsRecord:
        known = {**records.RECORDS, record.id: record}
        monkeypatch.setattr(records, "RECORDS", known)
        monkeypatch.setattr(store, "RECORDS", known)
        return record

    return put
