"""A fit that is not stored is named before the system has a result."""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.fit_check import check_fit
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.local import run_local
from asdbench.engine.module_state import ModuleState
from asdbench.engine.state import backend_state
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.system import ClipBatch, System
from asdbench.testing import write_tiny
from tests.plugins import CONFIG, UNTRAINED

BATCH = ClipBatch(
    torch.arange(6.0).view(3, 1, 2),
    torch.arange(3),
    3,
    torch.zeros(3, dtype=torch.int64),
    torch.zeros(3, dtype=torch.int64),
)


class Mine(System[Any]):
    """Squared distance to the mean, which each test keeps in its own way."""

    center: Any

    def __init__(self, keep: Callable[[Any, Tensor], None], facts: Any) -> None:
        super().__init__(keep, facts)
        self.inner = nn.Linear(2, 2)
        self.inner.weight.data = torch.eye(2)

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        self.config(self, torch.cat([batch.windows.mean(dim=1) for batch in batches]).mean(dim=0))

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        return {"distance": (self.inner(batch.windows.mean(dim=1)) - self.fitted()).square().sum(dim=1)}

    def fitted(self) -> Tensor:
        center = self.center() if callable(self.center) else self.center
        return torch.as_tensor(center)


def check(keep: Callable[[Any, Tensor], None], cls: type[Mine] = Mine) -> None:
    """Fit a system that keeps the mean with ``keep``, and check it."""
    resolved: Any = SimpleNamespace(
        clips=SimpleNamespace(test_ids=[1, 2, 3], scoring_batches=lambda ids: iter([BATCH])),
        build_trained=lambda facts: cls(keep, facts),
        build_scorer=lambda trained: trained,
    )
    fitted: Any = cls(keep, None)
    trained = {name: value.clone() for name, value in fitted.state_dict().items()}
    modules = ModuleState.of_system(fitted)
    with torch.no_grad():
        fitted.fit_backend([BATCH])
        state = backend_state(fitted, trained)
        check_fit(fitted, resolved, trained, state, modules=modules, device=torch.device("cpu"))


def test_a_buffer_is_stored() -> None:
    check(lambda system, mean: system.register_buffer("center", mean))


def test_a_new_parameter_is_stored() -> None:
    check(lambda system, mean: setattr(system, "center", nn.Parameter(mean)))


def test_an_attribute_without_effect_is_no_fault() -> None:
    def keep(system: Any, mean: Tensor) -> None:
        system.register_buffer("center", mean)
        system.notes = ["fitted on", len(mean)]

    check(keep)


def as_attribute(system: Any, mean: Tensor) -> None:
    system.center = mean


def as_array(system: Any, mean: Tensor) -> None:
    system.center = mean.numpy()


def as_list(system: Any, mean: Tensor) -> None:
    system.center = mean.tolist()


def as_a_buffer_that_is_not_persistent(system: Any, mean: Tensor) -> None:
    system.register_buffer("center", mean, persistent=False)


def in_a_module(system: Any, mean: Tensor) -> None:
    system.inner.center = mean
    system.center = lambda: system.inner.center


def as_a_changed_parameter(system: Any, mean: Tensor) -> None:
    system.register_buffer("center", mean)
    system.inner.weight.mul_(2)


def in_a_new_module(system: Any, mean: Tensor) -> None:
    system.bank = nn.Module()
    system.bank.register_buffer("center", mean)
    system.center = mean


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            as_attribute,
            "Mine keeps 'center' outside its parameters and buffers, so a model that is stored and loaded "
            "cannot score ('Mine' object has no attribute 'center'); keep it in a buffer: "
            "self.register_buffer('center', values)",
        ),
        (as_array, "; turn it into tensors and keep it in a buffer: self.register_buffer('center', values)"),
        (as_list, "; turn it into tensors and keep it in a buffer: self.register_buffer('center', values)"),
        (as_a_buffer_that_is_not_persistent, "Mine keeps 'center' outside its parameters and buffers"),
        (in_a_module, "keep it in a buffer: self.inner.register_buffer('center', values)"),
        (
            as_a_changed_parameter,
            "Mine.fit_backend changes the parameter 'inner.weight', which only training",
        ),
        (
            in_a_new_module,
            "Mine.fit_backend creates the module 'bank', which a loaded model lacks; create it",
        ),
    ],
)
def test_what_is_not_stored_is_named(keep: Callable[[Any, Tensor], None], message: str) -> None:
    with pytest.raises(InputError) as error:
        check(keep)
    assert message in str(error.value)


def test_an_attribute_that_only_starts_otherwise_is_named() -> None:
    class Starts(Mine):
        def __init__(self, keep: Any, facts: Any) -> None:
            super().__init__(keep, facts)
            self.center = np.zeros(2, np.float32)

    with pytest.raises(
        InputError, match="stored and loaded has another value of 'distance' for 3 of 3 clips"
    ):
        check(lambda system, mean: setattr(system, "center", mean.numpy()), Starts)


_KEPT: dict[str, Any] = {}
_SEEN: list[Any] = []


@functools.cache
def weights(size: int) -> Tensor:
    """A table that is made when it is first used."""
    return torch.ones(size)


def in_a_dict_of_the_module(system: Any, mean: Tensor) -> None:
    _KEPT["mean"] = mean


def in_the_class(system: Any, mean: Tensor) -> None:
    type(system).center = mean


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            in_a_dict_of_the_module,
            "KeepsElsewhere keeps _KEPT['mean'] in its module or class rather than in its parameters and "
            "buffers, so a model that is stored and loaded in another process cannot score ('mean'); ",
        ),
        (in_the_class, "KeepsElsewhere keeps KeepsElsewhere.center in its module or class"),
    ],
)
def test_what_is_kept_in_a_module_or_class_is_named_every_time(
    keep: Callable[[Any, Tensor], None], message: str
) -> None:
    class KeepsElsewhere(Mine):
        center = None

        def fitted(self) -> Tensor:
            return torch.as_tensor(_KEPT["mean"] if self.center is None else self.center)

    for _ in range(2):  # the first leaves nothing behind that the second could score with
        with pytest.raises(InputError) as error:
            check(keep, KeepsElsewhere)
        assert message in str(error.value)
    assert not _KEPT


def test_a_cache_of_a_module_is_no_fault() -> None:
    def keep(system: Any, mean: Tensor) -> None:
        import colorsys  # an import in a function

        _SEEN.append((colorsys, weights(2)))
        type(system).table = weights(2)
        system.register_buffer("center", mean)

    class Caches(Mine):
        table: Any = None

        def fitted(self) -> Tensor:
            self.table = weights(2) if self.table is None else self.table
            return super().fitted() * torch.as_tensor(self.table)

    check(keep, Caches)
    assert _SEEN.pop() is not None
    assert Caches.table is weights(2)


def test_scores_that_are_random_are_named() -> None:
    class Random(Mine):
        def fitted(self) -> Tensor:
            return torch.rand(2)

    with pytest.raises(
        InputError, match="depend on parameters, buffers and the batch only, and draw no random"
    ):
        check(lambda system, mean: system.register_buffer("center", mean), Random)


PLUGIN = (
    CONFIG
    + """

class Forgets(System[Config]):
"""
    + UNTRAINED
    + """
    def fit_backend(self, batches):
        self.normal = torch.cat([self.mean_spectra(batch) for batch in batches])

    def components(self, batch):
        return {"distance": torch.cdist(self.mean_spectra(batch), self.normal).amin(dim=1)}

    def mean_spectra(self, batch):
        return batch.mean_over_clips(batch.windows.mean(dim=1))
"""
)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a system that forgets to register a buffer."""
    (tmp_path / "forgets_a_buffer.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = SystemSource("forgets_a_buffer", None, "systems/forgets.py")
    monkeypatch.setattr(registry, "_sources", lambda: {"forgets": [source]})
    yield "forgets"
    sys.modules.pop("forgets_a_buffer", None)
    registry.get.cache_clear()
    registry.source_hash.cache_clear()


def test_a_run_names_a_forgotten_buffer_and_stores_no_scores(tmp_path: Path, plugin: str) -> None:
    workspace = Workspace.from_home(tmp_path / "home")
    catalog.add(workspace, "tiny", write_tiny(tmp_path / "clips", machine_types=("fan",)))
    store = JobStore.from_workspace(workspace)
    [task] = by_training([ResolvedJob.from_workspace(Job(plugin, {}, "tiny", "fan", 0), workspace)])
    [failure] = run_local([task], store, checkpoint_epochs=1, on_event=lambda event: None)
    assert failure.bad_input
    assert "Forgets keeps 'normal' outside its parameters and buffers" in failure.message
    assert "self.register_buffer('normal', values)" in failure.message
    assert not store.is_done(task)
