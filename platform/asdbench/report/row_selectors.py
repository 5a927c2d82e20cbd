"""Rows of the leaderboard by number or by name, as ``asdbench compare`` takes them.

A selector is one of

- ``3`` or ``#3``: the number of the row, which the leaderboard shows in its first column;
- ``system``, ``system@preset`` or ``system@preset,key=value``: the row of a system with exactly these
  settings or, where there is none, the only row that has them among others. The word ``tuned`` after the
  ``@`` asks for the row whose settings a search has chosen: ``system@tuned``;
- the name of an imported or published result.

`label` writes a row as a selector.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asdbench import registry
from asdbench.config import typed
from asdbench.engine.commands import run_command
from asdbench.errors import InputError, unknown_name
from asdbench.report.rendering import Row
from asdbench.report.stored_runs import StoredRunOptions

TUNED = "tuned"
_NUMBER = re.compile(r"#?([0-9]{1,18})")
_PSEUDO_ANOMALY_DATA = "pseudo_anomaly_data"
_MOST_LISTED = 8


@dataclass(frozen=True)
class SystemWords:
    """What a selector says of a system's row.

    Attributes
    ----------
    system : name of the system
    presets, values : its presets, and settings by name
    is_tuned : whether only rows are meant whose settings a search has chosen
    """

    system: str
    presets: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    is_tuned: bool = False

    @property
    def is_mere_name(self) -> bool:
        """Whether it names neither a preset nor a setting."""
        return not (self.presets or self.values)

    @classmethod
    def from_text(cls, text: str) -> "SystemWords":
        """Return what ``system@word,word`` says.

        A word without ``=`` behind a setting belongs to its value, which may be a list.

        Raises
        ------
        InputError
            A word is empty, or a setting is given twice.

        Examples
        --------
        >>> words = SystemWords.from_text("multitask-mel@fast,tuned,steps=50")
        >>> words.presets, words.values, words.is_tuned
        (('fast',), {'steps': '50'}, True)
        >>> SystemWords.from_text("ensemble@members=a,b").values
        {'members': 'a,b'}
        """
        system, at, rest = text.partition("@")
        words = rest.split(",") if at else []
        if not system or not all(words) or any(word.startswith("=") for word in words):
            raise InputError(f"{text!r} has an empty word; write it like 'system@preset,key=value'")
        presets: list[str] = []
        values: dict[str, str] = {}
        name = ""
        for word in words:
            if word == TUNED:
                continue
            if "=" in word:
                name, _, value = word.partition("=")
                if name in values:
                    raise InputError(f"{text!r} gives {name!r} twice; give it once")
                values[name] = value
            elif name:
                values[name] += f",{word}"
            else:
                presets.append(word)
        return cls(system, tuple(presets), values, TUNED in words)


def numbered(rows: Sequence[Row]) -> list[Row]:
    """Return rows with their number first: the place among rows that are not published, from 1.

    Published rows have no number. ``rows`` are sorted, the best first.

    >>> numbered([{"system": "a"}, {"system": "theirs", "reference": {}}, {"system": "b"}])[2]
    {'number': 2, 'system': 'b'}
    """
    number = 0
    result: list[Row] = []
    for row in rows:
        is_published = row.get("reference") is not None
        number += not is_published
        result.append({"number": None if is_published else number} | row)
    return result


def label(row: Row) -> str:
    """Return a row as a selector: its name with its changed settings.

    >>> label({"system": "mine", "settings": {"epochs": 3}, "tuned": {"trials": 5}})
    'mine@tuned,epochs=3'
    """
    words = [TUNED] if row.get("tuned") else []
    words += [_setting_words(row["settings"])] if row["settings"] else []
    return f"{row['system']}@{','.join(words)}" if words else str(row["system"])


def short_labels(rows: Sequence[Row]) -> list[str]:
    """Return a short name for each row: its system, with its number where several are of that system.

    >>> of_system = {"system": "mine", "tuned": None}
    >>> short_labels([of_system | {"number": 1}, of_system | {"number": 4}, {"system": "b", "number": 2}])
    ['#1 mine', '#4 mine', 'b']
    """
    systems = [row["system"] for row in rows]
    return [
        f"#{row['number']} {row['system']}" if systems.count(row["system"]) > 1 else row["system"]
        for row in rows
    ]


def _setting_words(settings: Mapping[str, object]) -> str:
    return ",".join(f"{name}={typed(value)}" for name, value in settings.items())


def select_rows(
    selectors: Sequence[str | int],
    rows: Sequence[Row],
    *,
    data: str,
    options: StoredRunOptions | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Row]:
    """Return the row that each selector means.

    Parameters
    ----------
    selectors
        As the module describes; a number may be given as such.
    rows
        All rows of the leaderboard, as `numbered` returns them.
    data
        Name of the data set, for messages.
    options
        Preset and settings of the selectors that are nothing but the name of a system; each gets those that
        it has.
    seeds
        The seeds of commands that messages advise.

    Raises
    ------
    InputError
        No row or more than one matches a selector, or the options apply to none.

    Examples
    --------
    >>> rows = numbered([{"system": "baseline-mse", "settings": {"epochs": 3}, "tuned": None}])
    >>> [row["number"] for row in select_rows([1, "baseline-mse"], rows, data="demo")]
    [1, 1]
    """
    options = options or StoredRunOptions()
    direct = {str(selector): _direct(str(selector), rows, data) for selector in selectors}
    words = {text: SystemWords.from_text(text) for text, row in direct.items() if row is None}
    _check_known(words.values(), rows, data)
    settings = _settings(words, options)
    _check_have_rows(words, settings, rows, data, options, seeds)
    for text, of_text in words.items():
        direct[text] = _of_system(text, of_text, settings[text], rows, data, seeds)
    return [row for row in (direct[str(selector)] for selector in selectors) if row is not None]


def _direct(text: str, rows: Sequence[Row], data: str) -> Row | None:
    """Return the row of a number or of a published result; ``None`` for the words of a system."""
    number = _NUMBER.fullmatch(text)
    if number:
        return _by_number(int(number[1]), rows, data)
    others = [row for row in rows if row["number"] is None or row.get("imported")]
    named = [row for row in others if row["system"] == text]
    return _only(text, named, data) if named else None


def _by_number(number: int, rows: Sequence[Row], data: str) -> Row:
    for row in rows:
        if row["number"] == number:
            return row
    last = max((row["number"] or 0 for row in rows), default=0)
    available = f"its rows are 1 to {last}" if last else "it has no rows yet"
    raise InputError(
        f"the leaderboard of {data} has no row {number}; {available}, as {_shown_by(data)} shows"
    )


def _of_system(
    text: str,
    words: SystemWords,
    settings: Mapping[str, object],
    rows: Sequence[Row],
    data: str,
    seeds: Sequence[int],
) -> Row:
    of_system = _rows_of(words.system, rows)
    asked = [row for row in of_system if row["tuned"]] if words.is_tuned else of_system
    exact = [row for row in asked if row["settings"] == settings]
    untuned = [row for row in exact if not row["tuned"]]
    wider = [row for row in asked if settings.items() <= row["settings"].items()]
    matching = untuned or exact or wider
    if not matching:
        given = f"{text}@{_setting_words(settings)}" if words.is_mere_name and settings else text
        cure = (
            "" if words.is_tuned else f"; run {_command([words.system], settings, data, seeds)!r} to add it"
        )
        raise InputError(
            f"no row of {data} matches {given!r}; the rows of {words.system} are {_listed(of_system)}{cure}"
        )
    return _only(text, matching, data)


def _rows_of(system: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["number"] is not None and row["system"] == system]


def _check_known(all_words: Iterable[SystemWords], rows: Sequence[Row], data: str) -> None:
    for words in all_words:
        if not _rows_of(words.system, rows) and words.system not in registry.names():
            known = {row["system"] for row in rows} | set(registry.names())
            raise unknown_name("row", words.system, known, of=f"the leaderboard of {data}")


def _check_have_rows(
    words: Mapping[str, SystemWords],
    settings: Mapping[str, Mapping[str, object]],
    rows: Sequence[Row],
    data: str,
    options: StoredRunOptions,
    seeds: Sequence[int],
) -> None:
    """Raise :class:`InputError` for a system without rows, with the command that runs it."""
    lacking = [text for text, of_text in words.items() if not _rows_of(of_text.system, rows)]
    if not lacking:
        return
    system = words[lacking[0]].system
    mere = list(dict.fromkeys(words[text].system for text in lacking if words[text].is_mere_name))
    if system in mere:
        each = registry.configure_each(mere, options.values, preset=options.preset)
        command = options.for_systems(each.values()).run_command(mere, data, seeds)
    else:
        command = _command([system], settings[lacking[0]], data, seeds)
    raise InputError(f"there are no results of {system} on data set {data!r}; run {command!r}")


def _command(systems: Sequence[str], settings: Mapping[str, object], data: str, seeds: Sequence[int]) -> str:
    """Return the command that runs systems with the settings of a row."""
    values = dict(settings)
    pseudo_anomaly_data = values.pop(_PSEUDO_ANOMALY_DATA, None)
    return run_command(
        systems,
        data,
        seeds=seeds,
        settings=values,
        pseudo_anomaly_data=pseudo_anomaly_data,  # type: ignore[arg-type]
    )


def _settings(words: Mapping[str, SystemWords], options: StoredRunOptions) -> dict[str, dict[str, object]]:
    """Return the changed settings that each selector's row must have."""
    mere = [of_text.system for of_text in words.values() if of_text.is_mere_name]
    if options != StoredRunOptions() and not mere:
        raise InputError(
            "--preset, --set and --pseudo-anomalies-from are for systems that are given by name alone; write "
            "them behind the system, as in 'system@preset,key=value'"
        )
    each = registry.configure_each(mere, options.values, preset=options.preset) if mere else {}
    return {
        text: _changed(each[of_text.system], options.pseudo_anomaly_data)
        if of_text.is_mere_name
        else _own_settings(of_text)
        for text, of_text in words.items()
    }


def _own_settings(words: SystemWords) -> dict[str, object]:
    values = dict(words.values)
    pseudo_anomaly_data = values.pop(_PSEUDO_ANOMALY_DATA, None)
    preset = ",".join(words.presets) or None
    registry.check_preset(preset, [words.system])
    configured = registry.configure(words.system, values, preset=preset)
    return _changed(configured, pseudo_anomaly_data)


def _changed(configured: registry.Configured, pseudo_anomaly_data: str | None) -> dict[str, object]:
    if pseudo_anomaly_data is None or not configured.takes_pseudo_anomalies():
        return dict(configured.changed())
    return {**configured.changed(), _PSEUDO_ANOMALY_DATA: pseudo_anomaly_data}


def _only(text: str, matching: Sequence[Row], data: str) -> Row:
    if len(matching) == 1:
        return matching[0]
    raise InputError(
        f"{text!r} matches {len(matching)} rows of {data}: {_listed(matching)}; name one by its number, as "
        f"{_shown_by(data)} shows it"
    )


def _listed(rows: Iterable[Row]) -> str:
    """Return rows by number and label; of very many the first."""
    texts = [f"{row['number']} {label(row)}" for row in rows]
    more = [f"and {len(texts) - _MOST_LISTED} more"] if len(texts) > _MOST_LISTED else []
    return "; ".join([*texts[:_MOST_LISTED], *more])


def _shown_by(data: str) -> str:
    return f"'asdbench leaderboard --data {shlex.quote(data)}'"
