"""Who is the champion where several leaderboards compete; the rest is tested with real models."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from asdbench.tracking.logged_models import _crown, registered_name
from asdbench.tracking.records import ModelEntry
from tests.tracking.boards import model_entry


class Registry:
    """A registry with one champion."""

    def __init__(self, entry: ModelEntry) -> None:
        self.versions: list[Any] = []
        self.aliases: dict[str, str] = {}
        self.crown(entry)

    def crown(self, entry: ModelEntry) -> str:
        """Let an entry compete; return the source of the champion."""
        place = f"{entry.store} {entry.weights}"
        model = SimpleNamespace(model_id=place, artifact_location=place, tags={})
        run = SimpleNamespace(info=SimpleNamespace(run_id="r"))
        _crown(self, run, model, entry)  # type: ignore[arg-type]
        return str(self.get_model_version_by_alias("", "").source)

    def search_registered_models(self, _: str) -> list[Any]:
        return [SimpleNamespace(aliases=self.aliases)] if self.versions else []

    def create_registered_model(self, name: str, description: str) -> None:
        assert name == registered_name("demo")

    def get_model_version_by_alias(self, *_: str) -> Any:
        return next(of for of in self.versions if of.version == self.aliases["champion"])

    def search_model_versions(self, _: str) -> list[Any]:
        return self.versions

    def create_model_version(self, _: str, source: str, *__: str, tags: Any, model_id: str) -> Any:
        version = str(len(self.versions) + 1)
        self.versions.append(SimpleNamespace(source=source, tags=tags, version=version))
        return self.versions[-1]

    def set_model_version_tag(self, _: str, version: str, tag: str, value: str) -> None:
        self.versions[int(version) - 1].tags[tag] = value

    def set_logged_model_tags(self, *_: Any) -> None:
        pass

    def set_registered_model_alias(self, _: str, alias: str, version: str) -> None:
        self.aliases[alias] = version


def entry(weights: str, *, score: float = 60.0, as_of_ns: int = 5, store: str = "s") -> ModelEntry:
    return msgspec.structs.replace(
        model_entry(), weights=weights, as_of_ns=as_of_ns, store=store, metrics={"official_score": score}
    )


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [
        (entry("new", score=50.0, as_of_ns=6), "s new"),  # the leader of the later leaderboard, even if worse
        (entry("new", as_of_ns=4), "s old"),
        (entry("new", score=61.0, as_of_ns=4, store="other"), "other new"),
        (entry("new", score=59.0, as_of_ns=6, store="other"), "s old"),
    ],
)
def test_the_later_leaderboard_of_a_store_and_the_better_of_two_stores_have_the_champion(
    challenger: ModelEntry, champion: str
) -> None:
    assert Registry(entry("old")).crown(challenger) == champion


def test_a_model_has_one_version_however_often_it_leads() -> None:
    registry = Registry(entry("old"))
    registry.crown(entry("new", as_of_ns=6))
    assert registry.crown(entry("old", as_of_ns=7)) == "s old"
    assert [version.source for version in registry.versions] == ["s old", "s new"]
