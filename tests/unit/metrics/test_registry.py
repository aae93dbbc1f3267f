"""Families and their children, snapshots, and how several workers' figures become one."""

from __future__ import annotations

import pickle

import pytest

from sidecar.metrics import Registry, merge, registry, retired
from sidecar.metrics.cells import HistogramValue


@pytest.fixture
def figures():
    return Registry(service="requests")


def samples(snapshot, name):
    return next(family.samples for family in snapshot if family.description.name == name)


def test_the_same_labels_give_the_same_cell(figures):
    family = figures.counter("hits_total", "Hits.", "service", "route")
    assert family.labels(route="a") is family.labels(route="a", service="requests")
    assert family.labels(route="a") is not family.labels(route="b")


def test_the_service_label_is_the_registrys_unless_it_is_given(figures):
    family = figures.gauge("depth", "Depth.", "service")
    family.labels().value = 1
    family.labels(service="other").value = 2
    assert samples(figures.snapshot(), "depth") == {("requests",): 1, ("other",): 2}


@pytest.mark.parametrize("labels", [{}, {"route": "a", "color": "red"}, {"rout": "a"}])
def test_other_labels_than_the_familys_are_refused(figures, labels):
    family = figures.counter("hits_total", "Hits.", "route")
    with pytest.raises(ValueError, match="has the labels"):
        family.labels(**labels)


def test_names_are_defined_once_and_counters_end_in_total(figures):
    figures.counter("hits_total", "Hits.")
    with pytest.raises(ValueError, match="defined twice"):
        figures.gauge("hits_total", "Hits.")
    with pytest.raises(ValueError, match="ends in _total"):
        figures.counter("hits", "Hits.")


@pytest.mark.parametrize("bounds", [(2.0, 1.0), (1.0, 1.0)])
def test_bounds_must_ascend(figures, bounds):
    with pytest.raises(ValueError, match="must ascend"):
        figures.histogram("took_ms", "Time.", bounds=bounds)


def test_a_family_without_labels_shows_its_zero_from_the_start(figures):
    figures.counter("drops_total", "Drops.")
    figures.counter("hits_total", "Hits.", "route")
    snapshot = figures.snapshot()
    assert samples(snapshot, "drops_total") == {(): 0}
    assert samples(snapshot, "hits_total") == {}


def test_past_the_limit_all_further_series_share_one(figures, monkeypatch):
    monkeypatch.setattr(registry, "MAX_SERIES", 2)
    family = figures.counter("hits_total", "Hits.", "route")
    for route in "abcdef":
        family.labels(route=route).value += 1
    assert samples(figures.snapshot(), "hits_total") == {("a",): 1, ("b",): 1, ("_OTHER",): 4}
    assert repr(family) == "<Family hits_total series=3>"


def test_sources_are_read_at_each_snapshot_and_what_they_leave_out_is_gone(figures):
    states = {("app", "h1"): 0.0, ("app", "h2"): 2.0}
    figures.gauge("state", "State.", "upstream", "host").collect_from(states.items)
    assert samples(figures.snapshot(), "state") == states
    del states["app", "h2"]
    assert samples(figures.snapshot(), "state") == {("app", "h1"): 0.0}


def test_a_single_figure_can_be_read_from_a_function(figures):
    figures.gauge("lag_seconds", "Lag.").value_from(lambda: 1.5)
    assert samples(figures.snapshot(), "lag_seconds") == {(): 1.5}


def worker(requests, *, active, lag, started, times):
    """A worker's snapshot, having been through what carries it to the process that merges."""
    figures = Registry(service="s")
    figures.counter("requests_total", "R.", "route").labels(route="a").value = requests
    figures.gauge("active", "A.").labels().value = active
    figures.gauge("lag", "L.", rule="max").labels().value = lag
    figures.gauge("started", "S.", rule="min").labels().value = started
    histogram = figures.histogram("took_ms", "T.", bounds=(1.0, 5.0)).labels()
    for at, value in times:
        histogram.observe_traced(value, f"{at:032x}", at)
    return pickle.loads(pickle.dumps(figures.snapshot()))


def test_merging_adds_counters_and_histograms_and_follows_the_gauges_rules():
    one = worker(3, active=2, lag=0.5, started=100, times=[(1, 0.5), (9, 3.0)])
    other = worker(4, active=1, lag=2.5, started=90, times=[(5, 0.6), (6, 4.0), (7, 60.0)])
    merged = merge([one, other])
    assert samples(merged, "requests_total") == {("a",): 7}
    assert samples(merged, "active") == {(): 3}
    assert samples(merged, "lag") == {(): 2.5}
    assert samples(merged, "started") == {(): 90}
    histogram = samples(merged, "took_ms")[()]
    assert isinstance(histogram, HistogramValue)
    assert histogram.counts == (2, 2, 1)
    assert histogram.total == pytest.approx(68.1)
    newest = {index: exemplar.time for index, exemplar in histogram.exemplars.items()}
    assert newest == {0: 5, 1: 9, 2: 7}


def test_merging_leaves_the_parts_as_they_were():
    one = worker(3, active=2, lag=0, started=1, times=[])
    merge([one, one])
    assert samples(one, "requests_total") == {("a",): 3}


def test_a_series_that_only_one_worker_has_is_kept():
    one, other = Registry(service="s"), Registry(service="s")
    for figures, route in ((one, "a"), (other, "b")):
        figures.counter("hits_total", "Hits.", "route").labels(route=route).value = 1
    assert samples(merge([one.snapshot(), other.snapshot()]), "hits_total") == {("a",): 1, ("b",): 1}


def test_different_buckets_cannot_be_merged():
    one, other = Registry(service="s"), Registry(service="s")
    one.histogram("took_ms", "T.", bounds=(1.0,))
    other.histogram("took_ms", "T.", bounds=(2.0,))
    with pytest.raises(ValueError, match="other buckets"):
        merge([one.snapshot(), other.snapshot()])


def test_an_ended_worker_leaves_its_counters_and_histograms_but_not_its_gauges():
    left = retired(worker(3, active=2, lag=1, started=1, times=[(1, 1.0)]))
    assert [family.description.name for family in left] == ["requests_total", "took_ms"]


def test_children_show_their_zero_before_anything_happened(figures):
    family = figures.counter("keyed_total", "Keyed.", "route", "result")
    cells = family.children("result", ["executed", "unknown"], route="pay")
    cells["unknown"].value += 1
    assert samples(figures.snapshot(), "keyed_total") == {("pay", "executed"): 0, ("pay", "unknown"): 1}
