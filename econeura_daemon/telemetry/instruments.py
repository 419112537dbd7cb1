"""Counters, gauges and histograms that cost a dictionary look-up.

prometheus-client takes a lock and builds a label key on every observation: 2.0 µs for a counter with labels,
2.3 µs for a histogram (Python 3.11). The daemon makes about a dozen observations an event, so these
instruments keep plain numbers (0.2 and 0.3 µs) and become prometheus-client's families only when somebody
asks for the page.

Each instrument is written by one thread. `freeze` copies its numbers, on the event loop's thread, in one step
that CPython makes without letting another thread in; what it returns makes the family of the copy, in any
thread.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

Labels = tuple[str, ...]

Frozen = Callable[[], Metric]
"""Makes the family of numbers that were copied."""

MAX_SERIES = 500
"""Label sets that one instrument keeps; later ones are counted together, so that no caller can fill the
memory.
"""

OTHER = "other"
"""The value of every label once `MAX_SERIES` is reached, and of a label whose value is not known."""


class Counter:
    """Counts, by label set."""

    __slots__ = ("_help", "_labels", "_name", "_series")

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        """``name`` without the ``_total`` that the exposition adds."""
        self._name = name
        self._help = text
        self._labels = labels
        self._series: dict[Labels, float] = {} if labels else {(): 0}

    def inc(self, *labels: str, by: float = 1) -> None:
        """Add ``by`` to the series of ``labels``, which stand in the order of their declaration."""
        try:
            self._series[labels] += by
        except KeyError:
            key = _admit(self._series, labels, self._labels)
            self._series[key] = self._series.get(key, 0) + by

    def value(self, *labels: str) -> float:
        """Return what was counted so far; 0 for a series that was never touched."""
        return self._series.get(labels, 0)

    def freeze(self) -> Frozen:
        """Copy the present numbers."""
        return partial(_counter_family, self._name, self._help, self._labels, self._series.copy())


class Gauge:
    """The present level, by label set."""

    __slots__ = ("_help", "_labels", "_name", "_series")

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self._name = name
        self._help = text
        self._labels = labels
        self._series: dict[Labels, float] = {} if labels else {(): 0}

    def set(self, value: float, *labels: str) -> None:
        """Say the present level."""
        if labels not in self._series:
            labels = _admit(self._series, labels, self._labels)
        self._series[labels] = value

    def add(self, value: float, *labels: str) -> None:
        """Move the level by ``value``, up or down."""
        try:
            self._series[labels] += value
        except KeyError:
            key = _admit(self._series, labels, self._labels)
            self._series[key] = self._series.get(key, 0) + value

    def value(self, *labels: str) -> float:
        """Return the present level; 0 for a series that was never set."""
        return self._series.get(labels, 0)

    def freeze(self) -> Frozen:
        """Copy the present numbers."""
        return partial(_gauge_family, self._name, self._help, self._labels, self._series.copy())


class Histogram:
    """Counts of values by size, by label set."""

    __slots__ = ("_bounds", "_help", "_labels", "_name", "_names", "_series")

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        """``bounds``: the upper ends of the buckets, ascending, in the metric's unit; an endless one is
        added.
        """
        self._name = name
        self._help = text
        self._labels = labels
        self._bounds = tuple(bounds)
        self._names = (*(str(float(bound)) for bound in bounds), "+Inf")
        # One list a series: a count for each bucket, then the sum of all values.
        self._series: dict[Labels, list[float]] = {}
        if not labels:
            self._series[()] = self._empty()

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        try:
            series = self._series[labels]
        except KeyError:
            series = self._series.setdefault(_admit(self._series, labels, self._labels), self._empty())
        series[bisect_left(self._bounds, value)] += 1
        series[-1] += value

    def count(self, *labels: str) -> int:
        """Return how many values were observed."""
        return int(sum(self._series.get(labels, [0])[:-1]))

    def total(self, *labels: str) -> float:
        """Return the sum of all values that were observed."""
        return self._series.get(labels, [0.0])[-1]

    def freeze(self) -> Frozen:
        """Copy the present numbers."""
        return partial(
            self._family, {labels: series.copy() for labels, series in self._series.copy().items()}
        )

    def _family(self, frozen: Mapping[Labels, list[float]]) -> Metric:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for labels, series in frozen.items():
            *counts, total = series
            running = 0.0
            buckets = []
            for name, count in zip(self._names, counts, strict=True):
                running += count
                buckets.append((name, running))
            family.add_metric(labels, buckets, total)
        return family

    def _empty(self) -> list[float]:
        return [0] * (len(self._bounds) + 1) + [0.0]


Reading = float | Mapping[str, float]
"""What a callable of `Sampled` tells: a number, or one for each value of the instrument's only label."""


class Sampled:
    """A gauge or counter whose numbers somebody else keeps; asked for each page, on the event loop."""

    __slots__ = ("_family", "_help", "_label", "_name", "_read")

    def __init__(
        self, name: str, text: str, read: Callable[[], Reading], *, label: str | None, counts: bool
    ) -> None:
        self._name = name
        self._help = text
        self._read = read
        self._label = label
        self._family = _counter_family if counts else _gauge_family

    def freeze(self) -> Frozen:
        """Ask, and keep the answer; raises what the callable raises."""
        answer = self._read()
        names = (self._label,) if self._label else ()
        if not isinstance(answer, Mapping):
            return partial(self._family, self._name, self._help, names, {(): answer})
        return partial(self._family, self._name, self._help, names, {(key,): n for key, n in answer.items()})


def _admit(series: Mapping[Labels, object], labels: Labels, names: Labels) -> Labels:
    """Return the key under which a new label set is kept."""
    if len(labels) != len(names):
        raise ValueError(f"expected a value for each of {names}, got {labels}")
    return labels if len(series) < MAX_SERIES else (OTHER,) * len(names)


def _gauge_family(name: str, text: str, names: Labels, series: Mapping[Labels, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=names)
    for labels, value in series.items():
        family.add_metric(labels, value)
    return family


def _counter_family(name: str, text: str, names: Labels, series: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=names)
    for labels, value in series.items():
        family.add_metric(labels, value)
    return family
