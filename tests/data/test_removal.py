"""Removal of data sets: what goes, what stays, and what happens when it is interrupted."""

import shutil
from pathlib import Path

import pytest

from asdbench.data import feature_store, removal
from asdbench.data.sets import catalog
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.spec import MelSpec
from asdbench.testing import write_tiny

SMALL = MelSpec(n_mels=8)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.from_home(tmp_path / "home")


def register(workspace: Workspace, name: str, folder: Path, *, seed: int = 0) -> list[Path]:
    """Register a data set of two machine types, build features of each, and return their files."""
    if not folder.exists():
        write_tiny(folder, source_clips=6, seed=seed)
    data = catalog.add(workspace, name, folder)
    for kind in data.machine_types:
        feature_store.mels(data, kind, SMALL, min_frames=4)
    specs = [feature_store.FeatureSpec(name, kind, SMALL, 4, waveform=True) for kind in data.machine_types]
    return [path for spec in specs for path in feature_store.paths(data, spec)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_registration_and_features_go_and_the_users_recordings_stay(
    workspace: Workspace, tmp_path: Path
) -> None:
    features = register(workspace, "mine", tmp_path / "mine")
    others = register(workspace, "other", tmp_path / "other", seed=1)
    before = files(tmp_path / "mine")
    plan = removal.plan_removal(workspace, "mine")
    assert sorted(plan.features) == sorted(features)
    assert plan.n_feature_bytes == sum(path.stat().st_size for path in features)
    assert (plan.recordings, plan.kept_recordings, plan.n_recording_bytes) == (None, tmp_path / "mine", 0)
    removal.remove(plan)
    assert catalog.names(workspace) == ["other"]
    assert files(workspace.home / "data") == files(workspace.home / "data" / "other")
    assert sorted((workspace.home / "store").glob("*.arrow")) == sorted(others)
    assert len(list((workspace.home / "store").glob(".*.digest"))) == len(others)
    assert files(tmp_path / "mine") == before
    assert feature_store.is_built(
        catalog.load(workspace, "other"), feature_store.FeatureSpec("other", "fan", SMALL, 4)
    )


def test_features_that_another_data_set_shares_stay(workspace: Workspace, tmp_path: Path) -> None:
    features = register(workspace, "mine", tmp_path / "mine")
    assert register(workspace, "again", tmp_path / "mine") == features
    removal.remove(removal.plan_removal(workspace, "mine"))
    assert all(path.exists() for path in features)
    assert removal.plan_removal(workspace, "again").features == tuple(sorted(features))


@pytest.mark.parametrize("folder", ["demo-20-seed0", "dcase2023"])
def test_recordings_that_asdbench_has_written_go(workspace: Workspace, folder: str) -> None:
    root = workspace.home / "recordings" / folder
    register(workspace, "mine", root)
    (root / ".archives").mkdir()
    plan = removal.plan_removal(workspace, "mine")
    assert (plan.recordings, plan.kept_recordings) == (root, None)
    assert plan.n_recording_bytes == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    removal.remove(plan)
    assert not root.exists()


@pytest.mark.parametrize("folder", ["recordings/mine", "recordings/dcase2023", "elsewhere/demo-20-seed0"])
def test_recordings_of_a_user_in_the_data_home_stay(workspace: Workspace, folder: str) -> None:
    register(workspace, "mine", workspace.home / folder)
    assert removal.plan_removal(workspace, "mine").kept_recordings == workspace.home / folder


def test_recordings_of_two_registrations_stay_until_the_last_goes(workspace: Workspace) -> None:
    root = workspace.home / "recordings" / "demo-20-seed0"
    register(workspace, "one", root)
    register(workspace, "two", root)
    removal.remove(removal.plan_removal(workspace, "one"))
    assert root.exists()
    removal.remove(removal.plan_removal(workspace, "two"))
    assert not root.exists()


def test_an_interrupted_removal_is_finished_by_the_next(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace.home / "recordings" / "demo-20-seed0"
    features = register(workspace, "mine", root)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    plan = removal.plan_removal(workspace, "mine")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            removal.remove(plan)
    assert not any(path.exists() for path in features)
    assert catalog.names(workspace) == ["mine"]
    removal.remove(removal.plan_removal(workspace, "mine"))
    assert catalog.names(workspace) == []
    assert not root.exists()


def test_what_cannot_be_deleted_is_named(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = register(workspace, "mine", tmp_path / "mine")

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    plan = removal.plan_removal(workspace, "mine")
    with pytest.raises(InputError, match=f"cannot delete '{plan.features[0]}' .Permission denied"):
        removal.remove(plan)
    assert all(path.exists() for path in features)
    assert catalog.names(workspace) == ["mine"]


def test_a_damaged_registration_can_be_removed_and_an_unknown_one_cannot(
    workspace: Workspace, tmp_path: Path
) -> None:
    register(workspace, "mine", tmp_path / "mine")
    (workspace.home / "data" / "mine" / "dataset.json").write_text("{")
    removal.remove(removal.plan_removal(workspace, "mine"))
    assert catalog.names(workspace) == []
    with pytest.raises(InputError, match="no data set 'mine'"):
        removal.plan_removal(workspace, "mine")
