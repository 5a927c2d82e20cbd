"""Which store records: a given one, the environment's, or that of the data home."""

from pathlib import Path

import pytest

from asdbench.io.workspace import Workspace
from asdbench.tracking.address import Address, runs_page


def test_the_store_is_the_given_one_the_users_or_in_the_data_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.from_environment()
    assert Address.from_workspace(workspace) == Address(f"sqlite:///{home}/mlflow.db", home / "mlartifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert Address.from_workspace(workspace) == Address("http://tracking.example:5000")
    assert Address.from_workspace(workspace, "sqlite:///mine.db") == Address("sqlite:///mine.db", given=True)


def test_no_password_is_shown() -> None:
    address = Address("postgresql://me:hush@db/runs", given=True)
    assert "hush" not in address.shown + address.ui_command()
    assert Address("https://me:hush@tracking.example/").base == "https://tracking.example"


def test_the_command_names_the_store_only_if_it_was_given() -> None:
    assert Address("sqlite:///a.db").ui_command() == "asdbench ui"
    assert (
        Address("sqlite:///a b.db", given=True).ui_command() == "asdbench ui --mlflow-uri 'sqlite:///a b.db'"
    )


def test_the_page_of_an_experiment_opens_its_view() -> None:
    assert runs_page("http://x", "3", "demo").endswith("/#/experiments/3/runs?"
        "workflowType=machine_learning&viewStateShareKey=leaderboard")  # fmt: skip
    assert runs_page("http://x", "4", "demo/searches").endswith("viewStateShareKey=searches")
