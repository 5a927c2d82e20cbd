"""Our results next to a published table: the same machine types and metrics, in the layout of the table.

Idea: a table of a paper has a column for each system and, for each machine type, a row for each metric. Here
each column is a system of ours with its counterpart in the paper; each cell has our mean and standard
deviation over seeds, and the printed value. There are two tables: one under the rule of the data set, and one
under the in-domain rule, which ranks the clips of a domain against the anomalies of that domain alone. A
paper may follow either; its values compare only with ours under the same rule.

Conventions: values are fractions; a spread is the sample standard deviation over seeds (n − 1). The average
is the mean of all values by the rule. Only seeds with results for all machine types have one. Where a paper
prints one pAUC without naming its domain, it stands next to our pAUC of each domain, and there is an average
with each.

Source: Y. Zhang and M. Li, "Anomalous sound detection via multitask learning and adversarial learning",
technical report, DCASE 2023 Challenge Task 2, Table 2, for the layout.
"""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from asdbench.engine.events import Failure
from asdbench.engine.result_metrics import section_means
from asdbench.engine.result_record import ResultRecord
from asdbench.errors import InputError, unknown_name
from asdbench.metrics import IN_DOMAIN, Rule, summary
from asdbench.report.formatting import format_percent
from asdbench.report.leaderboard_table import METRIC_NAMES
from asdbench.report.published import Reference, references_for
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row

_ALL = "ALL"
_OFFICIAL, _IN_DOMAIN = "official", "in-domain"
_SCORE, _SCORE_TARGET = "score", "score_pauc_target"  # averages; within domains, with the pAUC of one


@dataclass(frozen=True)
class Counterpart:
    """A system of ours, and the published result that it is to reproduce.

    Attributes
    ----------
    system : name of the system
    published : name of the result in the table of published results
    header : heading of its column; by default the name of the system
    """

    system: str
    published: str
    header: str = ""


@dataclass(frozen=True)
class Cell:
    """A value of ours for each seed, next to the published one.

    Attributes
    ----------
    ours : by seed, fractions
    printed, recomputed : as the source prints it, and as its other values give it; ``None`` if they do not
    """

    ours: Mapping[int, float]
    printed: float | None
    recomputed: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean over seeds."""
        return statistics.fmean(self.ours.values()) if self.ours else None

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds."""
        return statistics.stdev(self.ours.values()) if len(self.ours) > 1 else None


@dataclass(frozen=True)
class Line:
    """A row of a reproduced table: one metric of a machine type, or an average.

    Attributes
    ----------
    rule : ``"official"`` or ``"in-domain"``
    machine_type : its name, or ``"ALL"``
    metric : name of the metric, or of the average
    cells : one for each counterpart
    """

    rule: str
    machine_type: str
    metric: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Reproduction(Report):
    """A published table, reproduced. Printed, it is the table under each rule.

    Attributes
    ----------
    title : name of the published table
    data : name of the data set
    counterparts : the columns
    references : the published result of each column
    seeds : the seeds that were to run
    settings : what the systems were run with, such as ``"--preset report"``
    lines : the values
    failures : the tasks that failed
    notes : what a reader should know about the results
    """

    title: str
    data: str
    counterparts: tuple[Counterpart, ...]
    references: tuple[Reference, ...]
    seeds: tuple[int, ...]
    settings: str
    lines: tuple[Line, ...]
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """A row for each value, fractions: ``rule``, ``machine_type``, ``metric``, ``system`` and more.

        ``ours`` and ``ours_std`` are over ``seeds``; ``published`` names the result with ``printed`` and
        ``recomputed``.
        """
        return [
            {
                "rule": line.rule,
                "machine_type": line.machine_type,
                "metric": line.metric,
                "system": counterpart.system,
                "ours": cell.mean,
                "ours_std": cell.std,
                "seeds": list(cell.ours),
                "published": counterpart.published,
                "printed": cell.printed,
                "recomputed": cell.recomputed,
            }
            for line in self.lines
            for counterpart, cell in zip(self.counterparts, line.cells, strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """Return the averages by name, in percent, as MLflow shows them."""
        values = {
            f"{row['rule']}/{row['system']}/{name}": row[name]
            for row in self.rows
            if row["machine_type"] == _ALL and row["metric"] == _SCORE
            for name in ("ours", "ours_std", "printed", "recomputed")
        }
        return {name: round(100 * value, 2) for name, value in values.items() if value is not None}

    def tables(self) -> list[DisplayTable]:
        """Return the tables for a terminal: printed values below ours.

        A narrow one leaves out spreads, a very narrow one numbers the columns too.
        """
        return [self._terminal_table(rule) for rule in self._rules()]

    def markdown_tables(self) -> list[DisplayTable]:
        """Return the tables with printed values in parentheses."""
        return [self._table(rule, _in_parentheses) for rule in self._rules()]

    def _rules(self) -> list[str]:
        return list(dict.fromkeys(line.rule for line in self.lines))

    def _terminal_table(self, rule: str) -> DisplayTable:
        medium = replace(self._table(rule, _stacked_mean), narrow=self._numbered_table(rule))
        return replace(self._table(rule, _stacked), narrow=medium)

    def _numbered_table(self, rule: str) -> DisplayTable:
        """Return a table with numbers for headers and the machine types on lines of their own."""
        table = self._table(rule, _stacked_mean)
        names = [f"({number}) {c.header or c.system}" for number, c in enumerate(self.counterparts, 1)]
        numbers = (f"({number})" for number in range(1, len(names) + 1))
        return replace(
            table,
            columns=[
                Column("criterion", no_wrap=True),
                *(Column(number, "right", no_wrap=True) for number in numbers),
            ],
            rows=list(_under_headings(table.rows)),
            caption=f"{', '.join(names)}. {table.caption}",
        )

    def _table(self, rule: str, cell: "_Format") -> DisplayTable:
        lines = [line for line in self.lines if line.rule == rule]
        return DisplayTable(
            [
                Column("machine type", no_wrap=True),
                Column("criterion", no_wrap=True),
                *(Column(_broken(c.header or c.system), "right", no_wrap=True) for c in self.counterparts),
            ],
            list(_display_rows(lines, cell)),
            f"{self.title} on {self.data}, under the {rule} rule",
            self._caption(rule, cell),
        )

    def _caption(self, rule: str, cell: "_Format") -> str:
        names = ", ".join(counterpart.system for counterpart in self.counterparts)
        sentences = [
            f"In percent: ours ({names}; {self.settings}), {cell.words} "
            f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}, "
            f"and {cell.place} it the printed value.",
            "Average: the mean of all values by the rule; recomputed: that of the printed ones.",
        ]
        averages = [line for line in self.lines if line.rule == rule and line.machine_type == _ALL]
        if all(cell.printed is None for line in averages for cell in line.cells):
            sentences.append("No average over these machine types alone is printed.")
        if rule == _IN_DOMAIN:
            sentences.append(
                "The source prints one pAUC and does not say of which domain; it stands next to both."
            )
        others = [r.system for r in self.references if r.is_official != (rule == _OFFICIAL)]
        if others:
            sentences.append(f"Printed under another rule, so not comparable here: {', '.join(others)}.")
        sources = dict.fromkeys(reference.source for reference in self.references)
        return " ".join([*sentences, f"Source: {'; '.join(sources)}."])


def published_columns(counterparts: Sequence[Counterpart], challenge: str, *, subset: str) -> list[Reference]:
    """Return the published result of each counterpart; :class:`InputError` for one that does not exist."""
    known = {result.system: result for result in _published(challenge, subset)}
    for counterpart in counterparts:
        if counterpart.published not in known:
            kind = f"published result on {challenge} ({subset})"
            raise unknown_name(kind, counterpart.published, known)
    return [known[counterpart.published] for counterpart in counterparts]


def _published(challenge: str, subset: str) -> list[Reference]:
    from asdbench.data.sets.challenges import named

    return references_for(challenge, named(challenge).subsets[subset].machine_types, subset=subset)


def lines_of(
    references: Sequence[Reference],
    records: Sequence[Sequence[ResultRecord]],
    *,
    machine_types: Sequence[str],
    rule: Rule,
) -> tuple[Line, ...]:
    """Return the lines of a reproduced table.

    Parameters
    ----------
    references : the published result of each column
    records : the results of our system of each column, over seeds and machine types
    machine_types : those of the table, in its order
    rule : that of the data set
    """
    columns = [
        _Column(reference, of, machine_types) for reference, of in zip(references, records, strict=True)
    ]
    lines = [*_lines(_OFFICIAL, rule, [(_SCORE, rule)], columns, machine_types)]
    if rule.domains:
        averages = [
            (_SCORE, replace(IN_DOMAIN, pauc_of=("source",))),
            (_SCORE_TARGET, replace(IN_DOMAIN, pauc_of=("target",))),
        ]
        lines += _lines(_IN_DOMAIN, IN_DOMAIN, averages, columns, machine_types)
    return tuple(lines)


def _lines(
    name: str,
    rule: Rule,
    averages: Sequence[tuple[str, Rule]],
    columns: Sequence["_Column"],
    machine_types: Sequence[str],
) -> Iterator[Line]:
    for machine_type in machine_types:
        for metric in rule.metrics:
            cells = (column.value(name, machine_type, metric, rule) for column in columns)
            yield Line(name, machine_type, metric, tuple(cells))
    for average, of_average in averages:
        yield Line(name, _ALL, average, tuple(column.average(name, of_average) for column in columns))


class _Column:
    """The results of one system next to a published one."""

    def __init__(
        self, reference: Reference, records: Sequence[ResultRecord], machine_types: Sequence[str]
    ) -> None:
        self._reference = reference
        self._machine_types = machine_types
        self._by_seed: dict[int, dict[str, ResultRecord]] = {}
        for record in records:
            if record.machine_type in machine_types:
                self._by_seed.setdefault(record.seed, {})[record.machine_type] = record

    def value(self, name: str, machine_type: str, metric: str, rule: Rule) -> Cell:
        """Return a metric of a machine type under a rule."""
        ours = {
            seed: value
            for seed, of_seed in sorted(self._by_seed.items())
            if machine_type in of_seed
            and (value := _mean_of(of_seed[machine_type], name, metric, rule)) is not None
        }
        printed = self._reference.values.get(machine_type, {})
        return Cell(ours, printed.get(metric, printed.get(metric.partition("_")[0])))

    def average(self, name: str, rule: Rule) -> Cell:
        """Return the mean of all values under a rule, of the seeds that have all machine types."""
        ours = {
            seed: _score([s for record in of_seed.values() for s in _sections(record, name, rule)], rule)
            for seed, of_seed in sorted(self._by_seed.items())
            if len(of_seed) == len(self._machine_types)
        }
        is_whole = set(self._machine_types) == set(self._reference.machine_types)
        return Cell(
            ours,
            self._reference.printed_score if is_whole else None,
            self._reference.means(self._machine_types).get("score"),
        )


def _sections(record: ResultRecord, name: str, rule: Rule) -> list[dict[str, float]]:
    """Return the metrics of a rule of each section."""
    sections = [s.official if name == _OFFICIAL else s.in_domain for s in record.sections.values()]
    return [{m: values[m] for m in rule.metrics if m in values} for values in sections]


def _score(sections: Sequence[Mapping[str, float]], rule: Rule) -> float:
    return summary(sections, rule=rule)["score"]


def _mean_of(record: ResultRecord, name: str, metric: str, rule: Rule) -> float | None:
    sections = _sections(record, name, rule)
    return section_means(sections, rule=rule).get(metric) if any(sections) else None


def check_machine_types(machine_types: Sequence[str], references: Sequence[Reference], data: str) -> None:
    """Raise :class:`InputError` if no published result has a value of any of the machine types."""
    known = {name: None for reference in references for name in reference.values}
    if not known.keys() & set(machine_types):
        raise InputError(
            f"data set {data!r} has none of the machine types of the published results "
            f"({', '.join(known)}); name another with --data"
        )


# Cells


class _Format:
    """How a cell is written: ours with or without its spread, and the printed value."""

    def __init__(self, *, has_spread: bool, is_stacked: bool) -> None:
        self._has_spread = has_spread
        self._is_stacked = is_stacked

    @property
    def words(self) -> str:
        """What a cell shows of ours, up to the seeds."""
        if self._has_spread:
            return "mean and standard deviation over"
        return "mean (the terminal is too narrow for standard deviations) over"

    @property
    def place(self) -> str:
        """Where the printed value is."""
        return "below" if self._is_stacked else "in parentheses after"

    def __call__(self, cell: Cell) -> Text:
        text = Text(self.ours(cell))
        printed = format_percent(cell.printed)
        if self._is_stacked:
            return text.append(f"\n{printed}", style="dim")
        return text if cell.printed is None else text.append(f" ({printed})")

    def ours(self, cell: Cell) -> str:
        """Return our value."""
        spread = f" ± {format_percent(cell.std)}" if self._has_spread and cell.std is not None else ""
        return f"{format_percent(cell.mean)}{spread}"


_stacked = _Format(has_spread=True, is_stacked=True)
_stacked_mean = _Format(has_spread=False, is_stacked=True)
_in_parentheses = _Format(has_spread=True, is_stacked=False)


def _display_rows(lines: Sequence[Line], cell: _Format) -> Iterator[DisplayRow]:
    previous = ""
    for line in lines:
        if line.machine_type != _ALL:
            is_first = line.machine_type != previous
            name, previous = line.machine_type if is_first else "", line.machine_type
            cells = map(cell, line.cells)
            yield DisplayRow([name, METRIC_CRITERIA[line.metric], *cells], begins_section=is_first)
    yield from _average_rows([line for line in lines if line.machine_type == _ALL], cell)


def _average_rows(averages: Sequence[Line], cell: _Format) -> Iterator[DisplayRow]:
    """Yield our averages, and below them the printed and the recomputed one."""
    has_two = len(averages) > 1
    for place, line in enumerate(averages):
        label = f"ours, {_PAUC_OF[line.metric]}" if has_two else "ours"
        own = map(cell.ours, line.cells)
        name = "" if place else "Average"
        yield DisplayRow([name, label, *own], is_bold=True, begins_section=not place)
    published = averages[0].cells
    yield DisplayRow(["", "printed", *(format_percent(of_column.printed) for of_column in published)])
    yield DisplayRow(["", "recomputed", *(format_percent(of_column.recomputed) for of_column in published)])


def _under_headings(rows: Sequence[DisplayRow]) -> Iterator[DisplayRow]:
    """Yield the rows without their first column, whose names become rows of their own."""
    for row in rows:
        name, criterion, *cells = row.cells
        if name:
            heading = Text(str(name), style="underline")
            yield DisplayRow([heading, *("" for _ in cells)], begins_section=True)
        yield DisplayRow([f"  {criterion}", *cells], is_bold=row.is_bold)


_PAUC_OF = {_SCORE: "pAUC (source)", _SCORE_TARGET: "pAUC (target)"}
METRIC_CRITERIA = {name: re.sub(" (.+)", r" (\1)", shown) for name, shown in METRIC_NAMES.items()}
"""The names of metrics as the report writes them, such as ``AUC (source)``."""


def _broken(header: str) -> str:
    """Return a header of several words on two lines, broken in the middle.

    >>> _broken("Baseline AE with MSE").splitlines()
    ['Baseline AE', 'with MSE']
    """
    words = header.split()
    if len(words) < 2:
        return header
    middle = min(range(1, len(words)), key=lambda n: abs(len(" ".join(words[:n])) - len(header) / 2))
    return f"{' '.join(words[:middle])}\n{' '.join(words[middle:])}"
