"""Which stored results match the current recordings, labels and code, answered for many results at once.

Idea: a result's name is a hash of all that it depends on (`asdbench.engine.evaluation.result_key`). Making
that hash again takes a tenth of a millisecond, so that the answer for each result is kept in the store,
together with a hash of everything that it was found with besides the record itself: recordings, labels, the
code of the system and of the platform. As long as that is the same, so is the answer.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path, PurePosixPath

import polars as pl

import asdbench
from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import JudgedTypes
from asdbench.engine.jobs import ResolvedJob, key_of
from asdbench.engine.result_index import Decoder
from asdbench.errors import InputError
from asdbench.io.segments import SegmentedTable
from asdbench.io.storage import Storage, StorageError

logger = logging.getLogger(__name__)

_COLUMNS = {"version": pl.String(), "context": pl.String(), "is_current": pl.Boolean()}


def with_checks(results: pl.DataFrame, data: DataSet, judged: JudgedTypes, root: Storage) -> pl.DataFrame:
    """Return results of one data set with a column ``is_current``.

    Parameters
    ----------
    results : rows of `asdbench.engine.record_index.indexed_records`
    data : their data set
    judged : its labels
    root : the storage of the job store, which keeps the answers
    """
    pairs = results.select("system", "pseudo_anomaly_data").unique()
    contexts = pl.Series(_contexts(list(pairs.iter_rows()), data, judged), dtype=pl.String())
    asked = results.join(
        pairs.with_columns(context=contexts),
        on=["system", "pseudo_anomaly_data"],
        nulls_equal=True,
        maintain_order="left",
    )
    table = SegmentedTable(root, f"index/checks/{data.name}", _COLUMNS)
    known = table.read()
    asked = asked.join(known, on=["name", "version", "context"], how="left", maintain_order="left")
    unknown = asked.filter(pl.col("is_current").is_null())
    if unknown.is_empty():
        return asked
    answers = pl.Series("is_current", list(_answers(unknown, data, judged)), dtype=pl.Boolean())
    found = unknown.with_columns(answers)
    try:
        table.append(found)
        table.merge(pl.concat([known, found.select(table.schema.names())]).unique("name", keep="last"))
    except StorageError as error:
        logger.info("what is current is not stored: %s", error)
    return asked.update(found.select("name", "is_current"), on="name")


def _answers(results: pl.DataFrame, data: DataSet, judged: JudgedTypes) -> Iterator[bool]:
    """Yield for each result whether its name is the key of its job."""
    decoder = Decoder()
    configured: dict[tuple[str, str], registry.Configured | None] = {}
    columns = ("name", "system", "changed_settings", "machine_type", "seed", "pseudo_anomaly_data", "subset")
    for name, system, settings, machine_type, seed, others, subset, tuned in results.select(
        *columns, "tuned"
    ).iter_rows():
        if (system, settings) not in configured:
            configured[system, settings] = _configured(system, decoder.decode("changed_settings", settings))
        of = configured[system, settings]
        if of is None or machine_type not in judged.types:
            yield False
            continue
        resolved = ResolvedJob(of, data, machine_type, seed, others)
        try:
            key = judged.result_key(resolved, subset=subset, tuned=decoder.decode("tuned", tuned))
        except InputError:  # the data set of the pseudo-anomalies does not exist
            yield False
            continue
        yield key == PurePosixPath(name).stem


def _configured(system: str, settings: dict[str, object]) -> registry.Configured | None:
    try:
        return registry.configure(system, settings)
    except InputError:  # the system or a setting no longer exists
        return None


def _contexts(pairs: Sequence[tuple[str, str | None]], data: DataSet, judged: JudgedTypes) -> list[str]:
    """Return a hash of all that a check depends on besides the result, for each pair.

    A pair is a system and the data set of its pseudo-anomalies.
    """
    fingerprint = data.fingerprint()
    of_pseudo_anomalies = {name: _fingerprint_of(name, data) for name in {name for _, name in pairs}}
    return [
        key_of(
            {
                "platform": _platform_hash(),
                "systems": _code_of(system),
                "data": fingerprint,
                "pseudo-anomaly data": of_pseudo_anomalies[name],
                "labels": judged.digest,
                "rule": asdict(data.rule),
            }
        )
        for system, name in pairs
    ]


@cache
def _platform_hash() -> str:
    """Return a hash of the platform's code."""
    package = Path(asdbench.__file__).parent
    digest = hashlib.blake2b(digest_size=12)
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _code_of(system: str) -> dict[str, str]:
    """Return hashes of the code of a system, of the one that it scores, and of all for an ensemble."""
    try:
        configured = registry.configure(system)
    except InputError as error:
        return {system: str(error)}
    names = registry.names() if configured.members else {system, configured.trainer.name}
    return {name: _source_hash(name) for name in names}


def _source_hash(system: str) -> str:
    try:
        return registry.source_hash(system)
    except InputError as error:
        return str(error)


def _fingerprint_of(name: str | None, data: DataSet) -> str | None:
    if name is None:
        return None
    try:
        return catalog.load(data.workspace, name).fingerprint()
    except InputError as error:
        return str(error)
