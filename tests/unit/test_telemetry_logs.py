"""The log, line by line: written to a stream in memory, or into a pipe that nobody empties."""

import io
import json
import logging
import os
import threading
import time
import warnings

import pytest

from econeura_daemon.core.settings import LogSettings
from econeura_daemon.telemetry import announce, open_logging
from econeura_daemon.telemetry import logs as logs_module

log = logging.getLogger("econeura_daemon.webhooks.dispatcher")


JSON, TEXT = LogSettings(format="json"), LogSettings(format="text")


def lines_of(write, settings=JSON, secrets=()):
    stream = io.StringIO()
    with open_logging(settings, stream) as logs:
        logs.hide(*secrets)
        write()
    return stream.getvalue().splitlines()


def entry_of(write, **kwargs):
    [line] = lines_of(write, **kwargs)
    return json.loads(line)


def text_of(write):
    return lines_of(write, settings=TEXT)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_record_is_one_json_object_with_instant_level_logger_message_and_fields():
    entry = entry_of(lambda: log.info("sent %d bytes", 4, extra={"delivery_id": "del_1", "status": 200}))
    assert entry.pop("timestamp")
    assert entry == {
        "level": "info",
        "logger": "econeura_daemon.webhooks.dispatcher",
        "message": "sent 4 bytes",
        "delivery_id": "del_1",
        "status": 200,
    }


def test_the_timestamp_is_rfc_3339_in_utc_with_milliseconds():
    record = logging.makeLogRecord({"msg": "x", "levelno": 20, "created": 1795485600.0129, "name": "n"})
    assert entry_of(lambda: logging.root.handle(record))["timestamp"] == "2026-11-24T02:00:00.012Z"


def test_a_field_named_like_a_member_of_every_line_does_not_replace_it():
    entry = entry_of(lambda: log.info("real", extra={"level": "fake", "timestamp": 1}))
    assert (entry["level"], entry["level_"], entry["timestamp_"]) == ("info", "fake", 1)


def test_an_exception_is_a_field_with_type_message_and_traceback():
    def fail():
        try:
            int("bad\nvalue")
        except ValueError:
            log.exception("it failed")

    exception = entry_of(fail)["exception"]
    assert exception["type"] == "ValueError"
    assert exception["message"] == "invalid literal for int() with base 10: 'bad\\nvalue'"
    assert exception["traceback"].startswith("Traceback (most recent call last)")


def test_an_exception_group_shows_each_of_its_exceptions():
    def fail():
        log.error("x", exc_info=ExceptionGroup("two", [ValueError("first"), KeyError("second")]))

    traceback = entry_of(fail)["exception"]["traceback"]
    assert "first" in traceback
    assert "second" in traceback


def test_a_very_long_traceback_keeps_its_head_and_its_tail():
    exception = entry_of(lambda: log.error("x", exc_info=ValueError("a" * 100_000 + "END")))["exception"]
    assert len(exception["traceback"]) < 17_000
    assert exception["traceback"].startswith("ValueError: aaa")
    assert exception["traceback"].endswith("END")


def test_levels_below_the_set_one_are_not_logged_and_a_reload_changes_that():
    stream = io.StringIO()
    with open_logging(LogSettings(level="warning", format="json"), stream) as logs:
        log.info("one")
        logs.apply(LogSettings(level="debug", format="json"))
        log.debug("two")
        logs.apply(LogSettings(level="error", format="text"))
        log.warning("three")
        log.error("four")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first)["message"] == "two"
    assert second.endswith("error   webhooks.dispatcher: four")


@pytest.mark.parametrize(("stream", "first"), [(io.StringIO, "{"), (Terminal, "2")])
def test_auto_means_text_on_a_terminal_and_json_elsewhere(stream, first):
    out = stream()
    with open_logging(LogSettings(format="auto"), out):
        log.info("hello")
    assert out.getvalue()[0] == first


def test_in_text_nobody_can_forge_a_second_line_or_steer_the_terminal():
    [line] = text_of(lambda: log.info("a\nb\x1b[2J\u2028c", extra={"path": "/x\r\ny"}))
    assert line.endswith(r"webhooks.dispatcher: a\nb\x1b[2J\x2028c path=/x\r\ny")


def test_in_text_an_exception_follows_on_lines_of_its_own_without_control_characters():
    _, *traceback = text_of(lambda: log.error("x", exc_info=ValueError("\x1b[2J")))
    assert traceback == [r"ValueError: \x1b[2J"]


@pytest.mark.parametrize("settings", [JSON, TEXT])
def test_the_ready_line_is_json_in_both_formats_and_passes_every_level(settings):
    settings = LogSettings(format=settings.format, level="error")
    [line] = lines_of(lambda: announce("ready", urls=["http://127.0.0.1:3001"], pid=1), settings=settings)
    assert line.startswith('{"event":"ready","urls":["http://127.0.0.1:3001"],"pid":1,"timestamp":"')


def test_python_warnings_are_logged():
    def warn():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("odd", RuntimeWarning, stacklevel=1)

    assert "RuntimeWarning: odd" in entry_of(warn)["message"]


def test_libraries_that_tell_of_every_request_are_quiet_even_at_debug():
    def write():
        logging.getLogger("httpx").info("HTTP Request: POST http://x")
        logging.getLogger("httpcore.http11").debug("send_request_headers.started")
        logging.getLogger("httpx").warning("this matters")

    assert entry_of(write, settings=LogSettings(level="debug", format="json"))["message"] == "this matters"


def test_leaving_restores_what_was_set_before():
    before = (logging.root.handlers[:], logging.root.level, logging.getLogger("httpx").level)
    lines_of(lambda: log.info("x"))
    assert (logging.root.handlers, logging.root.level, logging.getLogger("httpx").level) == before


def test_what_cannot_be_told_in_json_is_told_as_text_and_never_raises():
    class Odd:
        def __str__(self):
            raise RuntimeError("no")

    def write():
        log.info("surrogate \ud800", extra={"big": 2**80, "bytes": b"x", "set": {1}})
        log.info("%d", "not a number")
        log.info("odd", extra={"odd": Odd()})

    first, second, third = map(json.loads, lines_of(write))
    assert first["big"] == 2**80
    assert first["bytes"] == "b'x'"
    assert second["message"] == "a log line could not be made: TypeError"
    assert third["message"] == "a log line could not be made: RuntimeError"


@pytest.mark.parametrize(
    "extra",
    [
        {"secret": "hunter22"},
        {"webhook_secret": "hunter22"},
        {"headers": {"Authorization": "hunter22", "Cookie": "hunter22"}},
        {"headers": [{"X-Api-Key": "hunter22"}]},
        {"url": "postgresql://me:hunter22@localhost/db"},
        {"note": "password=hunter22"},
        {"note": 'token: "hunter22"'},
        {"note": "Authorization: Bearer hunter22hunter22"},
        {"note": "whsec_hunter22"},
        {"deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"token": "hunter22"}}}}}}}}},
    ],
)
@pytest.mark.parametrize("settings", [JSON, TEXT])
def test_a_secret_in_a_field_does_not_get_through(extra, settings):
    [line] = lines_of(lambda: log.info("x", extra=extra), settings=settings)
    assert "hunter22" not in line
    assert "[redacted]" in line


@pytest.mark.parametrize("settings", [JSON, TEXT])
def test_a_secret_in_a_message_or_an_exception_does_not_get_through(settings):
    def write():
        log.info("connecting to postgresql://me:hunter22@localhost/db with whsec_aHVudGVyMjI=")
        log.error("x", exc_info=ValueError("bearer hunter22hunter22"))
        announce("ready", urls=["http://me:hunter22@x/"])

    text = "\n".join(lines_of(write, settings=settings))
    assert "hunter22" not in text
    assert "aHVudGVyMjI" not in text


def test_a_value_that_was_named_does_not_get_through_whatever_it_looks_like():
    entry = entry_of(lambda: log.info("it is plain words here"), secrets=["plain words", None, "is"])
    assert entry["message"] == "it is [redacted] here"


def test_what_is_no_secret_gets_through():
    message = (
        "POST http://127.0.0.1:3001/v1/events answered 202 in 3.5 ms: 4 deliveries, key=value, basic facts"
    )
    assert entry_of(lambda: log.info(message))["message"] == message


def test_a_pipe_that_nobody_empties_stops_nobody_and_what_was_lost_is_counted_and_said(monkeypatch):
    monkeypatch.setattr(logs_module, "QUEUE_LINES", 10)
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader:
        with os.fdopen(write, "w") as stream, open_logging(JSON, stream) as logs:
            started = time.monotonic()
            for _ in range(200):
                log.info("x" * 10_000)
            assert time.monotonic() - started < 5
            assert logs.dropped > 100
            dropped = logs.dropped
            emptied = []
            emptier = threading.Thread(target=lambda: emptied.extend(reader))
            emptier.start()
        emptier.join()
    entries = [json.loads(line) for line in emptied]
    assert sum(entry.get("lines", 0) for entry in entries) == dropped
    assert sum("xxx" in entry["message"] for entry in entries) == 200 - dropped


def test_leaving_does_not_wait_for_ever_for_a_pipe_that_nobody_empties(monkeypatch):
    monkeypatch.setattr(logs_module, "FLUSH_SECONDS", 0.05)
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    with open_logging(JSON, stream) as logs:
        for _ in range(20):
            log.info("x" * 10_000)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with os.fdopen(read, "rb") as reader:
        emptier = threading.Thread(target=lambda: list(reader))
        emptier.start()
        logs._thread.join()
        stream.close()
        emptier.join()


def test_a_reader_that_went_away_costs_lines_and_nothing_else():
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    with open_logging(JSON, stream) as logs:
        log.info("x")
    assert logs.dropped >= 1
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_the_handler_has_a_lock_which_python_3_13_takes_unasked():
    with open_logging(JSON, io.StringIO()) as logs, logs.handler.lock:
        pass
