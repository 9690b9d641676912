"""The few PromQL queries that the sandbox's Prometheus answers, and the samples it answers them from.

Answered are, with matchers =, !=, =~, !~ and whitespace at will:

    METRIC{...}                                                     instant and range
    METRIC{...}[15s]                                                instant: the raw samples
    sum|count|max|avg [by (a, b)] (METRIC{...})                     instant and range
    sum|count|max|avg [by (a, b)] (last_over_time(METRIC{...}[15s]))
    sum|count|max|avg [by (a, b)] (max without (c, d) (METRIC{...} or last_over_time(...)))
    last_over_time(METRIC{...}[15s])

Everything else is refused by name: an answer that is nearly right would teach the tests something wrong.

A window [N] at t is (t-N, t], as in Prometheus 3. Prometheus 2.42 takes the left edge in as well. canaryd's
queries do not depend on it: they only want the last sample in the window, and the sample on the left edge is
the last one only when a whole window holds no other, that is when scrapes have stopped, and then the series'
own timestamps tell.
"""

import math
import re
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import promql_parser

from canaryd_sandbox.mesh.mesh import Labels, Sample

LOOKBACK = 300.0  # seconds that an instant selector looks back: Prometheus' default
SUPPORTED = (
    "METRIC{matchers}, METRIC{matchers}[N], last_over_time(METRIC{matchers}[N]), and sum, count, max or avg, "
    "with or without by (...), of METRIC{matchers}, of last_over_time(METRIC{matchers}[N]), or of max "
    "without (...) of one of these"
)


class QueryError(Exception):
    """A query that is not answered. code: 400 for what is no PromQL, 422 for PromQL beyond the sandbox."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Series:
    """The samples of one series: times in Unix seconds, ascending, their values, and when it was marked
    stale."""

    def __init__(self) -> None:
        self.times, self.values, self.stale = array("d"), array("d"), array("d")

    def window(self, low: float, high: float) -> Sequence[tuple[float, float]]:
        """The samples in (low, high]. Stale markers are no samples."""
        start, end = bisect_right(self.times, low), bisect_right(self.times, high)
        return list(zip(self.times[start:end], self.values[start:end], strict=True))

    def last(self, low: float, high: float) -> float | None:
        """The last value in (low, high], stale or not."""
        index = bisect_right(self.times, high) - 1
        return self.values[index] if index >= 0 and self.times[index] > low else None

    def present(self, at: float) -> float | None:
        """The value at an instant: none when stale, or older than the lookback."""
        index = bisect_right(self.times, at) - 1
        if index < 0 or self.times[index] <= at - LOOKBACK:
            return None
        marked = bisect_right(self.stale, at) - 1
        return None if marked >= 0 and self.stale[marked] > self.times[index] else self.values[index]

    def trim(self, before: float) -> None:
        for kept in (self.times, self.stale):
            cut = bisect_right(kept, before)
            if kept is self.times:
                del self.values[:cut]
            del kept[:cut]


class Samples:
    """Every series there is. Thread-safe. retention: seconds that samples are kept."""

    def __init__(self, retention: float = 6 * 3600.0) -> None:
        self.lock = threading.RLock()
        self._retention = retention
        self._series: dict[str, dict[Labels, Series]] = {}
        self._present: set[tuple[str, Labels]] = set()
        self._trimmed = -math.inf

    def append(self, now: float, samples: Iterable[Sample]) -> None:
        """The result of one scrape. A series of the last scrape that is not in this one is marked stale."""
        now = round(now, 3)  # Prometheus counts in milliseconds
        with self.lock:
            scraped_series = set()
            for name, labels, value in samples:
                series = self._series.setdefault(name, {}).setdefault(labels, Series())
                series.times.append(now)
                series.values.append(value)
                scraped_series.add((name, labels))
            for name, labels in self._present - scraped_series:
                self._series[name][labels].stale.append(now)
            self._present = scraped_series
            if now - self._trimmed > self._retention / 10:
                self._trim(now - self._retention)
                self._trimmed = now

    def forget_targets(self) -> None:
        """As after a restart: what vanished meanwhile is not marked stale, since nobody saw it vanish."""
        with self.lock:
            self._present = set()

    def _trim(self, before: float) -> None:
        for family in self._series.values():
            for labels, series in list(family.items()):
                series.trim(before)
                if not series.times:
                    del family[labels]

    def select(self, selector: "Selector") -> Iterator[tuple[dict[str, str], Series]]:
        for labels, series in self._series.get(selector.metric, {}).items():
            named = dict(labels)
            if all(matches(named.get(name, "")) for name, matches in selector.matchers):
                yield named, series

    def names(self) -> set[str]:
        with self.lock:
            return {name for family in self._series.values() for labels in family for name, _ in labels} | {
                "__name__"
            }


@dataclass(frozen=True)
class Selector:
    """METRIC{...}: a metric's name, and what each label's value must satisfy."""

    metric: str
    matchers: tuple[tuple[str, Callable[[str], bool]], ...]


@dataclass(frozen=True)
class Query:
    """One parsed query. window: of last_over_time or of a bare range selector, in seconds; None for the value
    at the instant."""

    selector: Selector
    window: float | None
    raw: bool = False  # a bare range selector: all its samples
    aggregate: str | None = None
    by: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()  # labels that series are merged over first, the largest value being taken


AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "count": lambda values: float(len(values)),
    "max": max,
    "avg": lambda values: math.fsum(values) / len(values),
}


def parse(text: str) -> Query:
    """The query that a text means; QueryError for one that is not answered."""
    try:
        parsed = promql_parser.parse(text)
    except ValueError as error:
        raise QueryError(400, f'invalid parameter "query": parse error: {error}') from error
    tree = _bare(parsed)
    if isinstance(tree, promql_parser.MatrixSelector):
        return Query(_selector(tree.vector_selector), tree.range.total_seconds(), raw=True)
    if not isinstance(tree, promql_parser.AggregateExpr):
        return _inner(tree)
    operation = str(tree.op)
    if operation not in AGGREGATES or tree.param is not None:
        raise _unsupported(f"the aggregation {operation}")
    copies, merged = _copies(_bare(tree.expr))
    inner = _inner(merged)
    by: tuple[str, ...] = ()
    if tree.modifier is not None:
        if tree.modifier.type != promql_parser.AggModifierType.By:
            raise _unsupported("without (...)")
        by = tuple(tree.modifier.labels)
    return Query(inner.selector, inner.window, aggregate=operation, by=by, copies=copies)


def _copies(tree: object) -> tuple[tuple[str, ...], object]:
    """The labels of a `max without (...)`, and what it is taken of; for anything else no labels, and
    itself."""
    if not isinstance(tree, promql_parser.AggregateExpr) or str(tree.op) != "max" or tree.modifier is None:
        return (), tree
    if tree.modifier.type != promql_parser.AggModifierType.Without:
        return (), tree
    return tuple(tree.modifier.labels), _bare(tree.expr)


def _bare(tree: object) -> object:
    while isinstance(tree, promql_parser.ParenExpr):
        tree = tree.expr
    return tree


def _inner(tree: object) -> Query:
    if isinstance(tree, promql_parser.VectorSelector):
        return Query(_selector(tree), None)
    if isinstance(tree, promql_parser.Call):
        if tree.func.name != "last_over_time":
            raise _unsupported(f"the function {tree.func.name}")
        window = _bare(tree.args[0])
        if isinstance(window, promql_parser.MatrixSelector):
            return Query(_selector(window.vector_selector), window.range.total_seconds())
    raise _unsupported(f"a {type(tree).__name__} there")


def _selector(tree: "promql_parser.VectorSelector") -> Selector:
    if tree.offset is not None or tree.at is not None:
        raise _unsupported("offset and @")
    if tree.matchers.or_matchers:
        raise _unsupported("or between matchers")
    name, matchers = tree.name, []
    for matcher in tree.matchers.matchers:
        if matcher.name == "__name__":
            if matcher.op != promql_parser.MatchOp.Equal:
                raise _unsupported("a pattern for the metric's name")
            name = matcher.value
        else:
            matchers.append((matcher.name, _predicate(matcher)))
    if not name:
        raise _unsupported("a selector without the metric's name")
    return Selector(name, tuple(matchers))


def _predicate(matcher: "promql_parser.Matcher") -> Callable[[str], bool]:
    value, op = matcher.value, matcher.op
    if op == promql_parser.MatchOp.Equal:
        return lambda label: label == value
    if op == promql_parser.MatchOp.NotEqual:
        return lambda label: label != value
    try:
        pattern = re.compile(value, re.DOTALL)  # anchored by fullmatch, as in Prometheus
    except re.error as error:
        raise QueryError(
            400, f'invalid parameter "query": error parsing regexp {value!r}: {error}'
        ) from error
    if op == promql_parser.MatchOp.Re:
        return lambda label: pattern.fullmatch(label) is not None
    return lambda label: pattern.fullmatch(label) is None


def _unsupported(what: str) -> QueryError:
    return QueryError(422, f"the sandbox's Prometheus does not answer {what}; it answers {SUPPORTED}")


Row = tuple[dict[str, str], list[tuple[float, float]]]
"""One series of a result: its labels, and its (time, value) pairs."""
Column = Sequence[float | None]
"""A series' value at each time; None where it has none."""


def evaluate(samples: Samples, query: Query, times: Sequence[float]) -> list[Row]:
    """The query's value at each time (of a raw query: the samples in the window that ends at the only time).
    Empty series are left out."""
    with samples.lock:
        selected = list(samples.select(query.selector))
        if query.raw:
            window = query.window or 0.0
            rows = [
                (
                    {"__name__": query.selector.metric, **labels},
                    list(series.window(times[0] - window, times[0])),
                )
                for labels, series in selected
            ]
            return _ordered(rows)
        values: list[tuple[dict[str, str], Column]] = [
            (labels, [_value(series, query.window, at) for at in times]) for labels, series in selected
        ]
    if query.aggregate is None:
        # last_over_time keeps the metric's name, as the selector itself does
        return _ordered(
            [
                ({"__name__": query.selector.metric, **labels}, _points(times, column))
                for labels, column in values
            ]
        )
    if query.copies:
        values = _grouped(values, lambda labels: [name for name in labels if name not in query.copies], max)
    grouped = _grouped(
        values, lambda labels: [name for name in query.by if name in labels], AGGREGATES[query.aggregate]
    )
    return _ordered([(labels, _points(times, column)) for labels, column in grouped])


def _grouped(
    values: Iterable[tuple[dict[str, str], Column]],
    kept: Callable[[dict[str, str]], list[str]],
    fold: Callable[[list[float]], float],
) -> list[tuple[dict[str, str], Column]]:
    """Series that agree in the labels that `kept` names, folded into one at each time."""
    groups: dict[tuple[tuple[str, str], ...], list[Column]] = {}
    for labels, column in values:
        groups.setdefault(tuple((name, labels[name]) for name in kept(labels)), []).append(column)
    rows: list[tuple[dict[str, str], Column]] = []
    for key, columns in groups.items():
        there = [[value for value in at if value is not None] for at in zip(*columns, strict=True)]
        rows.append((dict(key), [fold(found) if found else None for found in there]))
    return rows


def _value(series: Series, window: float | None, at: float) -> float | None:
    return series.present(at) if window is None else series.last(at - window, at)


def _points(times: Sequence[float], column: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(at, value) for at, value in zip(times, column, strict=True) if value is not None]


def _ordered(rows: list[Row]) -> list[Row]:
    return sorted(
        ((labels, points) for labels, points in rows if points), key=lambda row: sorted(row[0].items())
    )
