"""Features are built once, with their size shown, and not on a disk that is too full."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from asdbench.data import feature_store
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.features import announce_features, build_features
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError

Jobs = Callable[..., list[ResolvedJob]]


def test_missing_features_are_built_once(tiny_data: DataSet, small_jobs: Jobs, output: Any) -> None:
    jobs = small_jobs()
    features = [feature for job in jobs for feature in job.features]
    assert [feature_store.is_built(*feature) for feature in features] == [False, False]
    assert announce_features(jobs, console=output) == features
    assert output.lines[-1].startswith("building features: 2 machine types, ")
    assert [feature_store.is_built(*feature) for feature in features] == [False, False]
    build_features(jobs, console=output)
    assert [feature_store.is_built(*feature) for feature in features] == [True, True]
    assert len([line for line in output.lines if line.startswith("building features: 2")]) == 2
    before = list(output.lines)
    build_features([*jobs, *small_jobs("baseline-maha")], console=output)
    assert output.lines == before


def test_a_disk_that_is_too_full_is_refused_before_anything_is_built(
    small_jobs: Jobs, output: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=10, f_frsize=100))
    with pytest.raises(InputError, match=r"only 0 MB are free; free some space, or set ASDBENCH_HOME"):
        build_features(small_jobs(), console=output)
    assert output.lines == []
