"""MLflow's database, if it is one: one process makes its tables, and many calls are one transaction.

Idea: MLflow commits several times for each call, and each commit of SQLite waits for the disk: eight times a
result. Within `one_transaction`, the sessions of MLflow's store join one that is committed at the end.

Sources: https://docs.sqlalchemy.org/en/20/orm/session_transaction.html, "Joining a Session into an External
Transaction"; `mlflow.store.db.utils._get_managed_session_maker`.
"""

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from asdbench.io.files import replacing
from asdbench.io.workspace import Workspace

_SQLITE = "sqlite:///"
_local = threading.local()  # the session maker of this thread's transaction


@contextmanager
def alone_with_tables(uri: str, workspace: Workspace) -> Iterator[None]:
    """Keep other processes from making or migrating the tables of a database at the same time.

    MLflow does that when it first connects, and two at once fail: "table experiments already exists". A
    tracking server does it for itself. A new SQLite file appears with all its tables: MLflow cannot repair
    one whose making was interrupted.
    """
    if uri.startswith(("http://", "https://")):
        yield
        return
    database = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
    path = workspace.home / "mlflow.lock" if database is None else Path(f"{database}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if database is not None and not database.exists():
            _make_database(database)
        yield


def _make_database(path: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    with replacing(path) as temporary:
        engine = create_sqlalchemy_engine_with_retry(f"{_SQLITE}{temporary}")  # type: ignore[no-untyped-call]
        try:
            _initialize_tables(engine)  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()


@contextmanager
def one_transaction(client: Any) -> Iterator[None]:
    """Make what this thread writes with an MLflow client one transaction, if the client writes to SQLite.

    If the body raises, nothing of it is stored. Other threads are not affected.
    """
    store = client._tracking_client.store
    engine = getattr(store, "engine", None)
    if engine is None or engine.dialect.name != "sqlite":
        yield
        return
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy.orm import sessionmaker

    _install(store)
    with engine.connect() as connection, connection.begin():
        sessions = sessionmaker(bind=connection, join_transaction_mode="rollback_only")
        _local.sessions = _get_managed_session_maker(sessions, "sqlite")  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            _local.sessions = None


def is_conflict(error: BaseException) -> bool:
    """Whether an error is of the kind that MLflow resolves itself, but not within `one_transaction`.

    It answers a metric that is there already by rolling back, which ends the transaction.
    """
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    cause = error.__cause__ or error
    return isinstance(cause, SQLAlchemyError) and not isinstance(cause, OperationalError)


def _install(store: Any) -> None:
    """Have a store ask for this thread's transaction before it makes a session of its own."""
    make_session: Callable[..., AbstractContextManager[Any]] = store.ManagedSessionMaker
    if getattr(make_session, "is_shared", False):
        return

    def make_or_join(read_only: bool = True) -> AbstractContextManager[Any]:
        joined = getattr(_local, "sessions", None)
        return (joined or make_session)(read_only=read_only)

    make_or_join.is_shared = True  # type: ignore[attr-defined]
    store.ManagedSessionMaker = make_or_join
