"""What runs and searches return: the leaderboard, what a search found, and what failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from asdbench.config import SettingValue
from asdbench.driver.failures import failure_messages
from asdbench.engine.events import Failure
from asdbench.engine.search_record import FusionReport
from asdbench.errors import InputError
from asdbench.report.leaderboard_view import Leaderboard
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row
from asdbench.report.searches import fusion_table

if TYPE_CHECKING:
    import polars as pl

    from asdbench.driver.study_results import StudyResult


@dataclass(frozen=True)
class RunResult(Report):
    """The result of a run. Printed, it is the leaderboard, and what failed.

    Attributes
    ----------
    data : name of the data set
    leaderboards : one for each subset that has results, ``"dev"`` first
    failures : the tasks that failed, each with ``label``, ``message`` and ``bad_input``
    notes : what a reader should know about the results
    duration_s : how long the run took, in seconds
    """

    data: str
    leaderboards: tuple[Leaderboard, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def leaderboard(self) -> Leaderboard:
        """The first leaderboard; :class:`InputError` if nothing could be evaluated."""
        if not self.leaderboards:
            reasons = "; ".join([*self.notes, *(f"{f.label}: {f.message}" for f in self.failures)])
            raise InputError(f"nothing of the run on data set {self.data!r} could be evaluated: {reasons}")
        return self.leaderboards[0]

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the leaderboards."""
        return [row for leaderboard in self.leaderboards for row in leaderboard.rows]

    def tables(self) -> list[DisplayTable]:
        """Return the leaderboards as a terminal shows them."""
        return [table for leaderboard in self.leaderboards for table in leaderboard.tables()]

    def markdown_tables(self) -> list[DisplayTable]:
        """Return the leaderboards, and a table of what failed."""
        shown = [table for leaderboard in self.leaderboards for table in leaderboard.markdown_tables()]
        if self.failures:
            rows = [DisplayRow([failure.label, failure.message]) for failure in self.failures]
            shown.append(DisplayTable([Column("failed"), Column("reason")], rows))
        return shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.tables()
        for message in failure_messages(self.failures):
            yield _line(message, style="red")


@dataclass(frozen=True)
class TunedSystem:
    """The best settings that a search found for a system.

    Attributes
    ----------
    system : name of the system
    held_out : the machine type whose labels the search did not see, ``None`` if it saw all
    settings : the searched settings that differ from the untuned system's
    score, untuned_score : official scores of the best trial and of the untuned system, fractions;
        ``untuned_score`` is ``None`` if its trial failed
    trials : one row for each trial: ``number``, ``state``, ``score``, ``settings``, ``duration_s``
    """

    system: str
    held_out: str | None
    settings: Mapping[str, SettingValue]
    score: float
    untuned_score: float | None
    trials: "pl.DataFrame"

    @classmethod
    def from_study_result(cls, result: "StudyResult") -> "TunedSystem":
        """Return what a study has found."""
        study, start = result.study, result.study.space.start
        untuned = study.untuned_trial()
        return cls(
            study.system,
            study.held_out,
            {name: value for name, value in result.best.parameters.items() if value != start[name]},
            result.best.score,
            None if untuned is None else untuned.score,
            _trials_frame(result),
        )


@dataclass(frozen=True)
class TuneResult(RunResult):
    """The result of a search. Printed, it is what the search found, the leaderboard, and what failed.

    Attributes
    ----------
    tuned : the best settings of each system; with the protocol leave-one-type-out, one for each machine type
        that a search left out
    fused : the weights found for ensembles, by name
    left_out_tables : what tuning is worth on machine types that a search did not see
    fresh_seeds_tables : the scores of the best settings with seeds that a search did not see
    """

    tuned: tuple[TunedSystem, ...]
    fused: Mapping[str, FusionReport]
    left_out_tables: tuple[DisplayTable, ...]
    fresh_seeds_tables: tuple[DisplayTable, ...]

    def tables(self) -> list[DisplayTable]:
        """Return the fusion weights, what tuning is worth elsewhere, and the leaderboards."""
        return [*self._search_tables(), *super().tables()]

    def markdown_tables(self) -> list[DisplayTable]:
        """Return the same tables with all columns."""
        return [*self._search_tables(), *super().markdown_tables()]

    def _search_tables(self) -> list[DisplayTable]:
        fused = [fusion_table(*item) for item in self.fused.items()]
        return [*fused, *self.left_out_tables, *self.fresh_seeds_tables]


@dataclass(frozen=True)
class FuseResult(Report):
    """The fusion weights found for an ensemble. Printed, they stand above the leaderboard.

    Attributes
    ----------
    ensemble : name of the ensemble
    weights : weight of each member, by name; they add up to 1
    report : the weights and scores of the search
    command : the command that runs the ensemble with these weights
    leaderboard : of the development clips
    notes : what a reader should know about the results
    """

    ensemble: str
    report: FusionReport
    command: str
    leaderboard: Leaderboard
    notes: tuple[str, ...]

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each member, by name; they add up to 1."""
        return dict(zip(self.report.members, self.report.weights, strict=True))

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the leaderboard."""
        return self.leaderboard.rows

    def tables(self) -> list[DisplayTable]:
        """Return the weights and the leaderboard."""
        return [fusion_table(self.ensemble, self.report), *self.leaderboard.tables()]

    def markdown_tables(self) -> list[DisplayTable]:
        """Return the same tables with all columns."""
        return [fusion_table(self.ensemble, self.report), *self.leaderboard.markdown_tables()]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield fusion_table(self.ensemble, self.report)
        yield _line(f"to run the ensemble with these weights: {self.command}")
        yield from self.leaderboard.tables()


def _line(text: str, *, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def _trials_frame(result: "StudyResult") -> "pl.DataFrame":
    """Return the finished trials of a study."""
    import polars as pl

    from asdbench.config import assignments

    rows: list[dict[str, Any]] = [
        {
            "number": trial.number,
            "state": trial.state,
            "score": trial.score,
            "settings": assignments(trial.parameters),
            "duration_s": (trial.ended_unix_s or trial.began_unix_s) - trial.began_unix_s,
        }
        for trial in result.study.finished
    ]
    return pl.DataFrame(rows)
