"""Licenses and training data of pretrained weights as columns of the leaderboard."""

import csv
import io
import json

import pytest

from asdbench.engine import pretrained as pretrained_weights
from asdbench.metrics import OFFICIAL
from asdbench.registry import Configured
from asdbench.report import row_weights
from asdbench.report.leaderboard import rows
from asdbench.report.leaderboard_table import render, terminal_table
from asdbench.report.rendering import Row
from tests.report.test_leaderboard import TYPES, both_types, printed


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let baseline-mse need the weights of two encoders with one license."""

    def needed(configured: Configured) -> tuple[str, ...]:
        return ("beats-iter3", "eat-base") if configured.name == "baseline-mse" else ()

    monkeypatch.setattr(pretrained_weights, "weights_needed", needed)


def board(*, by_type: bool = False) -> list[Row]:
    records = [*both_types("baseline-mse"), *both_types("baseline-maha"), *both_types("gone")]
    members = "baseline-mse,baseline-maha"
    records += both_types("ensemble", changed_settings={"members": members})
    return rows(records, machine_types=TYPES, by_type=by_type)


@pytest.mark.parametrize("by_type", [False, True])
@pytest.mark.usefixtures("pretrained")
def test_a_row_says_what_its_weights_are_trained_on_and_under_which_license(by_type: bool) -> None:
    table = board(by_type=by_type)
    found = {row["system"]: row for row in table}
    for system in ("baseline-mse", "ensemble"):
        assert found[system]["weights"] == ["beats-iter3", "eat-base"]
        assert found[system]["weights_license"] == ["MIT"]
        assert found[system]["weights_training_data"] == ["AudioSet, without labels"]
    for system in ("baseline-maha", "gone"):
        assert found[system]["weights"] == []
    read = json.loads(str(render(table, format="json", title="demo")))
    assert next(row["weights_license"] for row in read if row["system"] == "ensemble") == ["MIT"]
    read = list(csv.DictReader(io.StringIO(str(render(table, format="csv", title="demo")))))
    assert {row["weights_license"] for row in read if row["system"] == "baseline-mse"} == {"MIT"}
    markdown = str(render(table, format="markdown", title="demo"))
    assert "| weights license | weights trained on |" in markdown
    assert "| MIT | AudioSet, without labels |" in markdown
    assert "AudioSet, without labels" in printed(table, width=200)


def test_the_weights_are_those_of_the_encoder_that_the_settings_name() -> None:
    records = [
        *both_types("encoder-knn"),
        *both_types("encoder-knn", changed_settings={"encoder": "ced-mini"}),
    ]
    found = {row["settings"].get("encoder"): row for row in rows(records, machine_types=TYPES)}
    assert found[None]["weights"] == ["beats-iter3"]
    assert found["ced-mini"]["weights"] == ["ced-mini"]
    assert found["ced-mini"]["weights_license"] == ["Apache-2.0"]


def test_weights_that_are_not_registered_keep_their_id_and_are_of_unknown_license() -> None:
    records = [*both_types("encoder-knn", changed_settings={"encoder": "gone-iter9"}), *both_types("gone")]
    found = {row["system"]: row for row in rows(records, machine_types=TYPES)}
    assert found["encoder-knn"]["weights"] == ["gone-iter9"]
    assert found["encoder-knn"]["weights_license"] == ["unknown"]
    assert found["encoder-knn"]["weights_training_data"] == ["unknown"]


@pytest.mark.usefixtures("pretrained")
def test_a_narrow_terminal_names_the_columns_that_it_leaves_out() -> None:
    assert "weights trained on" in printed(board(), width=90).replace("\n", " ")
    assert terminal_table(board(), "demo", OFFICIAL, n_dropped=7).narrow is None


def test_a_leaderboard_without_pretrained_weights_lacks_the_columns() -> None:
    table = board()
    assert not set(row_weights.COLUMNS) & set(table[0])
    assert "weights" not in str(render(table, format="markdown", title="demo"))
