"""Citations of systems and of asdbench."""

from pathlib import Path

import pytest
import yaml

from asdbench import registry
from asdbench.errors import InputError
from asdbench.report.citations import citations

CITATION_FILE = Path(__file__).parents[2] / "CITATION.cff"


def test_asdbench_is_cited_as_its_citation_file_says() -> None:
    [entry] = citations([])
    content = yaml.safe_load(CITATION_FILE.read_text(encoding="utf-8"))
    [author] = content["authors"]
    assert f"author = {{{{{author['name']}}}}}" in entry
    for name in ("title", "version", "license"):
        assert f"{name} = {{{content[name]}}}" in entry


def test_a_system_that_shares_its_citation_with_the_one_it_scores_has_one_entry() -> None:
    assert citations(["baseline-maha"]) == [registry.get("baseline-mse").citation]


def test_an_ensemble_comes_with_its_members() -> None:
    members = [registry.get(member.name).citation for member in registry.configure("ensemble").members]
    assert set(citations(["ensemble", "baseline-mse"])) == {
        *members, registry.get("ensemble").citation, registry.get("baseline-mse").citation,
    }  # fmt: skip


def test_an_unknown_system_is_bad_input() -> None:
    with pytest.raises(InputError, match="did you mean 'baseline-mse'"):
        citations(["baseline-msee"])
