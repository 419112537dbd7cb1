"""Metrics, as prometheus-client's own parser reads the page."""

import threading

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.parser import text_string_to_metric_families

from econeura_daemon._version import VERSION
from econeura_daemon.telemetry import metrics as metrics_module
from econeura_daemon.telemetry.instruments import MAX_SERIES, Counter, Gauge, Histogram
from econeura_daemon.telemetry.metrics import LONG, QUICK, Metrics


def read(page):
    """Return the samples by name and label values, those in the order of the label names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


async def page_of(metrics):
    with trio.fail_after(10):
        return read(await metrics.render())


async def test_the_page_shows_what_was_counted():
    metrics = Metrics()
    metrics.request_done("POST", "/v1/events", 202, 0.003)
    metrics.request_done("POST", "/v1/events", 202, 0.2)
    metrics.events_published.inc(by=2)
    metrics.deliveries.inc("delivered")
    metrics.deliveries_backlog.set(7, "pending")
    metrics.http_connections.add(3)
    metrics.http_connections.add(-1)
    page = await page_of(metrics)
    assert page["econeura_http_requests_total", ("POST", "/v1/events", "202")] == 2
    assert page["econeura_http_request_seconds_bucket", ("0.005", "/v1/events")] == 1
    assert page["econeura_http_request_seconds_bucket", ("+Inf", "/v1/events")] == 2
    assert page["econeura_http_request_seconds_count", ("/v1/events",)] == 2
    assert page["econeura_http_request_seconds_sum", ("/v1/events",)] == pytest.approx(0.203)
    assert page["econeura_events_published_total", ()] == 2
    assert page["econeura_deliveries_total", ("delivered",)] == 1
    assert page["econeura_deliveries_backlog", ("pending",)] == 7
    assert page["econeura_http_connections", ()] == 2


async def test_the_page_shows_version_and_process_and_every_metric_from_the_start_under_one_prefix():
    page = await page_of(Metrics())
    assert [labels[1] for name, labels in page if name == "econeura_build_info"] == [VERSION]
    names = {name for name, _ in page}
    assert {
        "econeura_process_resident_memory_bytes",
        "econeura_process_cpu_seconds_total",
        "econeura_process_open_fds",
        "econeura_events_published_total",
        "econeura_event_loop_lag_seconds_count",
        "econeura_store_commit_seconds_count",
    } <= names
    assert all(name.startswith("econeura_") for name in names)


async def test_numbers_that_others_keep_are_asked_for_each_page_on_the_loops_thread(autojump_clock):
    autojump_clock.autojump_threshold = float("inf")  # a worker thread renders
    metrics = Metrics()
    asked = []

    def queue():
        asked.append(threading.current_thread())
        return len(asked)

    metrics.gauge("store_queue", "Works that wait", queue)
    metrics.counter("store_groups", "Groups", lambda: 5)
    metrics.gauge("by_status", "By status", lambda: {"a": 1, "b": 2}, label="status")
    page = await page_of(metrics)
    assert page["econeura_store_queue", ()] == 1
    assert page["econeura_store_groups_total", ()] == 5
    assert page["econeura_by_status", ("b",)] == 2
    autojump_clock.jump(metrics_module.RENDERED_FOR)
    assert (await page_of(metrics))["econeura_store_queue", ()] == 2
    assert set(asked) == {threading.current_thread()}


async def test_a_number_that_cannot_be_read_is_logged_and_costs_only_itself(caplog):
    metrics = Metrics()
    metrics.gauge("broken", "x", lambda: 1 / 0)
    metrics.gauge("fine", "x", lambda: 1)
    page = await page_of(metrics)
    assert page["econeura_fine", ()] == 1
    assert ("econeura_broken", ()) not in page
    assert "a metric could not be read" in caplog.text


async def test_a_page_is_given_out_again_for_a_second(autojump_clock):
    autojump_clock.autojump_threshold = float("inf")  # a worker thread renders
    metrics = Metrics()
    first = await metrics.render()
    metrics.events_published.inc()
    autojump_clock.jump(metrics_module.RENDERED_FOR / 2)
    assert await metrics.render() is first
    autojump_clock.jump(metrics_module.RENDERED_FOR / 2)
    assert read(await metrics.render())["econeura_events_published_total", ()] == 1


async def test_readers_that_come_together_get_one_page():
    metrics = Metrics()
    asked = []
    metrics.gauge("asked", "x", lambda: asked.append(1) or len(asked))
    pages = []

    async def scrape():
        pages.append(await metrics.render())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(scrape)
    assert len(asked) == 1
    assert all(page is pages[0] for page in pages)


async def test_two_daemons_in_one_process_share_no_numbers():
    one, other = Metrics(), Metrics()
    one.events_published.inc()
    assert (await page_of(other))["econeura_events_published_total", ()] == 0


async def test_no_caller_can_make_endless_series():
    metrics = Metrics()
    for number in range(MAX_SERIES * 2):
        metrics.request_done(f"M{number}", None, 404, 0.001)
        metrics.request_done("GET", f"/{number}", 200, 0.001)
    page = await page_of(metrics)
    assert page["econeura_http_requests_total", ("other", "other", "404")] == MAX_SERIES * 2
    series = [labels for name, labels in page if name == "econeura_http_requests_total"]
    assert len(series) <= MAX_SERIES + 1
    assert sum(page["econeura_http_requests_total", labels] for labels in series) == MAX_SERIES * 4
    assert len([1 for name, _ in page if name == "econeura_http_request_seconds_count"]) <= MAX_SERIES + 1


@pytest.mark.parametrize(
    "touch",
    [
        lambda: Counter("c", "x", ("a",)).inc("1", "2"),
        lambda: Gauge("g", "x", ("a",)).set(1),
        lambda: Gauge("g", "x").add(1, "1"),
        lambda: Histogram("h", "x", [1], ("a",)).observe(1),
    ],
)
def test_the_wrong_number_of_labels_is_a_bug_that_shows(touch):
    with pytest.raises(ValueError, match="expected a value for each of"):
        touch()


@given(st.lists(st.floats(0, 1e6) | st.sampled_from(LONG)))
def test_a_histogram_says_what_prometheus_clients_own_says(values):
    registry = CollectorRegistry()
    theirs = TheirHistogram("h", "x", ["route"], buckets=LONG, registry=registry)
    ours = Histogram("h", "x", LONG, ("route",))
    for value in values:
        theirs.labels("r").observe(value)
        ours.observe(value, "r")
    [family] = registry.collect()
    expected = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    got = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in ours.freeze()().samples
    }
    assert got == expected
    assert ours.count("r") == len(values)
    assert ours.total("r") == pytest.approx(sum(values))


def test_an_instrument_tells_its_value():
    counter, gauge = Counter("c", "x", ("a",)), Gauge("g", "x", ("a",))
    counter.inc("1")
    gauge.set(5, "1")
    gauge.add(-2, "1")
    assert (counter.value("1"), counter.value("2")) == (1, 0)
    assert (gauge.value("1"), gauge.value("2")) == (3, 0)


@pytest.mark.parametrize("bounds", [QUICK, LONG])
def test_bounds_ascend(bounds):
    assert list(bounds) == sorted(set(bounds))
