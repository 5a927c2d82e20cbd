"""Which rows of a leaderboard to show: some systems, a preset, the best."""

from collections.abc import Sequence
from dataclasses import dataclass

from asdbench import registry
from asdbench.config import settings_of
from asdbench.errors import InputError, unknown_name
from asdbench.presets import split_presets
from asdbench.report.rendering import Row


@dataclass(frozen=True)
class Selection:
    """Which rows of a leaderboard to show.

    Attributes
    ----------
    systems : names of systems; empty for all
    preset : only rows with the settings of this preset, and those that a search has found from them
    top : only so many of the best rows, of each machine type if there is a row for each

    Raises
    ------
    InputError
        The preset does not exist, or ``top`` is below 1.

    Examples
    --------
    >>> rows = [{"system": name, "settings": {}, "tuned": None} for name in ("a", "b")]
    >>> [row["system"] for row in Selection(top=1).select(rows)]
    ['a']
    """

    systems: Sequence[str] = ()
    preset: str | None = None
    top: int | None = None

    def __post_init__(self) -> None:
        if self.preset is not None:
            known = registry.all_presets()
            for name in split_presets(self.preset):
                if name not in known:
                    raise unknown_name("preset", name, known)
        if self.top is not None and self.top < 1:
            raise InputError(f"--top {self.top} is too small; give at least 1")

    def select(self, rows: Sequence[Row]) -> list[Row]:
        """Return the selected rows, in their order; ``rows`` are sorted, the best first.

        Published rows do not count for ``top`` and have no preset.

        Raises
        ------
        InputError
            A system neither has a row nor exists.
        """
        known = {row["system"] for row in rows} | set(registry.names())
        for name in self.systems:
            if name not in known:
                raise unknown_name("system", name, known)
        chosen = [row for row in rows if self._is_chosen(row)]
        return chosen if self.top is None else _first(chosen, self.top)

    def options(self) -> str:
        """Return the options that select, as a user types them.

        >>> Selection(["mine"], preset="fast").options()
        '--systems mine --preset fast'
        """
        words = ["--systems", *self.systems] if self.systems else []
        words += ["--preset", self.preset] if self.preset is not None else []
        words += ["--top", str(self.top)] if self.top is not None else []
        return " ".join(words)

    def _is_chosen(self, row: Row) -> bool:
        if self.systems and row["system"] not in self.systems:
            return False
        if self.preset is None or row.get("reference"):
            return True
        return not row.get("imported") and _has_preset(row, self.preset)


def _has_preset(row: Row, preset: str) -> bool:
    """Return whether a row has exactly the settings of a preset or, if tuned, a search's beyond these.

    An ensemble may have any settings of its own that the preset does not name, such as weights.
    """
    settings = {name: value for name, value in row["settings"].items() if name != "pseudo_anomaly_data"}
    configured = registry.configure(row["system"], preset=preset)
    if configured.members:
        own = settings_of(configured.system.Config).keys() - registry.preset_settings(row["system"], preset)
        chosen = {name: value for name, value in settings.items() if name in own}
        configured = registry.configure(row["system"], chosen, preset=preset)
    expected = configured.changed()
    if row["tuned"]:
        return expected.items() <= settings.items()
    return expected == settings


def _first(rows: Sequence[Row], count: int) -> list[Row]:
    """Return the first ``count`` measured rows of each machine type, and all published ones."""
    n_seen: dict[str | None, int] = {}
    first = []
    for row in rows:
        if not row.get("reference"):
            machine_type = row.get("machine_type")
            n_seen[machine_type] = n_seen.get(machine_type, 0) + 1
            if n_seen[machine_type] > count:
                continue
        first.append(row)
    return first
