"""How a query that answers several series stands among the values of a look, each of which is one number.

Under the query's own name stands the number of its series (None: it was not answered), and under a name of
its own, made from the query's and the series' labels, each series' value. So live, recorded and judged again,
such a query goes the way of all others.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

Labels = Mapping[str, str]
SeriesValues = Mapping[str, float]
"""The value of each series by its labels as text, as `labels_text` writes them."""


def labels_text(labels: Labels) -> str:
    """Labels as text that is the same for the same labels: JSON with sorted keys."""
    return json.dumps(labels, sort_keys=True, ensure_ascii=False)


def labels_of(text: str) -> dict[str, str]:
    """The labels that `labels_text` wrote."""
    return dict(json.loads(text))


def series_name(query: str, labels: str) -> str:
    """The name of a series' value among the values of a look; no query of a policy can have this name."""
    return f"{query} of {labels}"


def columns(query: str, looks: Sequence[SeriesValues | None]) -> dict[str, list[float | None]]:
    """The values of a query look by look, by name, each as long as `looks`. looks: the series of each look;
    None: the query was not answered."""
    found: dict[str, list[float | None]] = {
        query: [None if look is None else float(len(look)) for look in looks]
    }
    for labels in sorted({labels for look in looks if look is not None for labels in look}):
        found[series_name(query, labels)] = [None if look is None else look.get(labels) for look in looks]
    return found


def series_of(query: str, values: Mapping[str, float | None]) -> dict[str, float] | None:
    """The series of a query among the values of one look; None: the query was not answered, or not asked."""
    if values.get(query) is None:
        return None
    prefix = series_name(query, "")
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if value is not None and name.startswith(prefix)
    }


def looks_of(query: str, columns: Mapping[str, Sequence[float | None]]) -> Iterable[dict[str, float] | None]:
    """The series of each look of several, as `columns` was given them; empty where the query was not
    asked."""
    prefix = series_name(query, "")
    own = {name: values for name, values in columns.items() if name == query or name.startswith(prefix)}
    for number in range(len(columns.get(query, ()))):
        yield series_of(query, {name: values[number] for name, values in own.items()})
