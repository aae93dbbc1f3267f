"""Families of cells, and the snapshot in which their figures leave the process.

A family is made once, at start. ``labels()`` is called at load, or at the first use of a combination, never
per request. A :data:`Snapshot` is plain data: it can be pickled to the process that serves ``/metrics``,
added to those of other workers with :func:`merge`, and rendered in another thread while the loop goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, Literal, TypeVar, cast

from sidecar.methods import OTHER
from sidecar.metrics.cells import Counter, Exemplar, Gauge, Histogram, HistogramValue

Kind = Literal["counter", "gauge", "histogram"]
Rule = Literal["sum", "max", "min"]
LabelValues = tuple[str, ...]
Value = float | HistogramValue
Readings = Iterable[tuple[LabelValues, float]]

MAX_SERIES: Final = 100_000
"""Children of one family. Label sets are bounded by configuration; this bounds a mistake in that."""

AnyCell = TypeVar("AnyCell", Counter, Gauge, Histogram)


@dataclass(frozen=True, slots=True)
class Description:
    """What a family is, apart from its figures.

    Attributes:
        name: As scraped; a counter's ends in ``_total``.
        help: One sentence for people.
        kind: How the figures behave.
        labels: Label names, in the order of every :data:`LabelValues`.
        rule: How the gauges of several workers become one figure; counters and histograms are always summed.
    """

    name: str
    help: str
    kind: Kind
    labels: LabelValues = ()
    rule: Rule = "sum"


@dataclass(frozen=True, slots=True)
class FamilySnapshot:
    """One family's figures at one moment, by label values."""

    description: Description
    samples: dict[LabelValues, Value]


Snapshot = tuple[FamilySnapshot, ...]


class Family(Generic[AnyCell]):
    """All series of one name."""

    __slots__ = ("_cells", "_make", "_sources", "description", "service")

    def __init__(self, description: Description, make: Callable[[], AnyCell], *, service: str) -> None:
        self.description = description
        self.service = service
        self._make: Callable[[], AnyCell] = make
        self._cells: dict[LabelValues, AnyCell] = {}
        self._sources: list[Callable[[], Readings]] = []

    def __repr__(self) -> str:
        return f"<Family {self.description.name} series={len(self._cells)}>"

    def labels(self, **values: str) -> AnyCell:
        """The cell of these label values, made when it is asked for the first time.

        ``service`` may be left out: it is the registry's. Past :data:`MAX_SERIES` children, all further
        combinations share one whose labels read ``_OTHER``.

        Raises:
            ValueError: The names are not those of the family.
        """
        names = self.description.labels
        if "service" in names:
            values.setdefault("service", self.service)
        if values.keys() != set(names):
            raise ValueError(f"{self.description.name} has the labels {names}, not {tuple(values)}")
        key = tuple(values[name] for name in names)
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= MAX_SERIES:
                key = (OTHER,) * len(names)
            cell = self._cells.setdefault(key, self._make())
        return cell

    def children(self, label: str, choices: Iterable[str], **others: str) -> dict[str, AnyCell]:
        """The cells of all ``choices`` for one label, made now, by choice.

        A series that shows its zero from the start lets ``increase()`` see the first event; one that begins
        with a 1 does not.
        """
        return {choice: self.labels(**{label: choice}, **others) for choice in choices}

    def collect_from(self, source: Callable[[], Readings]) -> None:
        """Also take figures from ``source``, called at each scrape on the loop's thread: it must be quick.

        It yields pairs of label values, in the family's order, and a number. What it no longer yields is gone
        from the next scrape. Counters and gauges only.
        """
        self._sources.append(source)

    def value_from(self, read: Callable[[], float]) -> None:
        """Take the figure of a family without labels from ``read``, on the terms of :meth:`collect_from`."""
        self.collect_from(lambda: (((), read()),))

    def read(self) -> FamilySnapshot:
        """The figures now."""
        # A copy: where the library is used, another thread may ask while the loop makes a new child.
        samples: dict[LabelValues, Value] = {key: cell.read() for key, cell in self._cells.copy().items()}
        for source in self._sources:
            samples.update(source())
        return FamilySnapshot(self.description, samples)


class Registry:
    """The families of one process.

    Args:
        service: Value of the ``service`` label.
    """

    __slots__ = ("_families", "service")

    def __init__(self, *, service: str) -> None:
        self.service = service
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}

    def counter(self, name: str, text: str, *labels: str) -> Family[Counter]:
        """A family of counters. ``name`` ends in ``_total``, as both text formats demand."""
        if not name.endswith("_total"):
            raise ValueError(f"the name of a counter ends in _total, unlike {name}")
        family = Family(Description(name, text, "counter", labels), Counter, service=self.service)
        self._add(family)
        return family

    def gauge(self, name: str, text: str, *labels: str, rule: Rule = "sum") -> Family[Gauge]:
        """A family of gauges; ``rule`` makes one figure of several workers' figures."""
        family = Family(Description(name, text, "gauge", labels, rule), Gauge, service=self.service)
        self._add(family)
        return family

    def histogram(self, name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> Family[Histogram]:
        """A family of histograms with the buckets that ``bounds`` (ascending, without ``+Inf``) limit."""
        if list(bounds) != sorted(set(bounds)):
            raise ValueError(f"the bounds of {name} must ascend: {bounds}")
        description = Description(name, text, "histogram", labels)
        family = Family(description, lambda: Histogram(bounds), service=self.service)
        self._add(family)
        return family

    def _add(self, family: Family[Counter] | Family[Gauge] | Family[Histogram]) -> None:
        name = family.description.name
        if name in self._families:
            raise ValueError(f"{name} is defined twice")
        self._families[name] = family
        if not family.description.labels:
            family.labels()  # there is only one, and it shows its zero from the start

    def snapshot(self) -> Snapshot:
        """All figures now, as plain data that can be pickled."""
        return tuple(family.read() for family in self._families.values())


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The figures of several workers as those of one sidecar.

    Counters and histograms are added up; gauges follow their family's rule. Families keep the order in which
    they are first seen.

    Raises:
        ValueError: The same histogram has different buckets in two snapshots.
    """
    families: dict[str, FamilySnapshot] = {}
    for snapshot in snapshots:
        for family in snapshot:
            name = family.description.name
            merged = families.get(name)
            if merged is None:
                families[name] = replace(family, samples=dict(family.samples))
            else:
                _add_samples(merged, family.samples)
    return tuple(families.values())


def retired(snapshot: Snapshot) -> Snapshot:
    """What is left of a worker that has ended: its counters and histograms, without its gauges.

    Whoever merges keeps this for each ended worker. Without it the sums would fall, which Prometheus takes
    for counters that began again at zero, and shows as a burst of traffic that never was.
    """
    return tuple(family for family in snapshot if family.description.kind != "gauge")


_COMBINE: Final[Mapping[Rule, Callable[[float, float], float]]] = {
    "sum": lambda one, other: one + other,
    "max": max,
    "min": min,
}


def _add_samples(merged: FamilySnapshot, samples: Mapping[LabelValues, Value]) -> None:
    combine = _COMBINE[merged.description.rule]
    for key, value in samples.items():
        known = merged.samples.get(key)
        if known is None:
            merged.samples[key] = value
        elif isinstance(known, HistogramValue):
            other = cast("HistogramValue", value)  # all samples of a family are of one kind
            merged.samples[key] = _add_histograms(merged.description.name, known, other)
        else:
            merged.samples[key] = combine(known, cast("float", value))


def _add_histograms(name: str, one: HistogramValue, other: HistogramValue) -> HistogramValue:
    if one.bounds != other.bounds:
        raise ValueError(f"{name} has other buckets in another worker: {one.bounds} and {other.bounds}")
    exemplars: dict[int, Exemplar] = dict(one.exemplars)
    for index, exemplar in other.exemplars.items():
        known = exemplars.get(index)
        if known is None or known.time < exemplar.time:
            exemplars[index] = exemplar
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramValue(one.bounds, counts, one.total + other.total, exemplars)
