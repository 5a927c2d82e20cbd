"""Which MLflow store records, and where its pages are."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from asdbench.io.workspace import Workspace
from asdbench.tracking.views import LEADERBOARD, SEARCHES


@dataclass(frozen=True)
class Address:
    """The address of an MLflow store: a tracking server or a database.

    Attributes
    ----------
    uri : its URI; it may hold a password
    artifacts : the folder for artifacts if the store is that of the data home, else ``None``
    given : whether the URI was given with ``--mlflow-uri``

    Examples
    --------
    >>> address = Address("https://me:secret@tracking.example")
    >>> address.shown
    'https://***@tracking.example'
    >>> address.is_server
    True
    """

    uri: str
    artifacts: Path | None = None
    given: bool = False

    @classmethod
    def from_workspace(cls, workspace: Workspace, uri: str | None = None) -> "Address":
        """Return the given address, else ``MLFLOW_TRACKING_URI``, else a SQLite file in the data home."""
        requested = uri or os.environ.get("MLFLOW_TRACKING_URI")
        if requested:
            return cls(requested, given=bool(uri))
        home = workspace.home.resolve()
        return cls(f"sqlite:///{home / 'mlflow.db'}", home / "mlartifacts")

    @property
    def is_server(self) -> bool:
        """Whether it is a tracking server, which has pages of its own."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def shown(self) -> str:
        """The URI without user and password."""
        return without_password(self.uri)

    @property
    def base(self) -> str:
        """The address of a server's pages, without user and password."""
        return self.shown.replace("***@", "").rstrip("/")

    def ui_command(self) -> str:
        """Return the command that shows this store; a URI that contains a password is not shown.

        >>> Address("sqlite:////data/mlflow.db", given=True).ui_command()
        'asdbench ui --mlflow-uri sqlite:////data/mlflow.db'
        """
        if not self.given:
            return "asdbench ui"
        return f"asdbench ui --mlflow-uri {shlex.quote(self.uri) if self.uri == self.shown else 'URI'}"


def runs_page(base: str, experiment_id: str, name: str) -> str:
    """Return the address of the arranged page of an experiment.

    Parameters
    ----------
    base : address of the server
    experiment_id, name : of the experiment, the name without ``asdbench/``

    Examples
    --------
    >>> runs_page("http://127.0.0.1:5000", "3", "demo")
    'http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=leaderboard'
    """
    view = SEARCHES if name.endswith("/searches") else LEADERBOARD
    page = f"{base}/#/experiments/{experiment_id}/runs"
    return f"{page}?workflowType=machine_learning&viewStateShareKey={view}"


def without_password(text: str) -> str:
    """Hide user and password in the URIs of a text."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)
