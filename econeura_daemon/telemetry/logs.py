"""The log: standard library logging, one JSON object or one line of text a record, on standard error.

A record becomes its finished line at once, where it is logged; a thread of its own writes the lines. A pipe
that nobody empties, or a terminal that somebody stopped, would otherwise stop the event loop. The standard
`QueueHandler` keeps records instead of lines: with their arguments, which may change, and their tracebacks,
whose frames would live on. The queue is bounded: what does not fit is dropped, counted, and said in the log
itself.

Loggers are named after their module. Further fields go by ``extra={"delivery_id": …}``.
"""

import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TextIO

import orjson

from econeura_daemon.core.clock import format_ms
from econeura_daemon.core.settings import LogSettings
from econeura_daemon.telemetry.redaction import Redactor

QUEUE_LINES = 10_000
"""Lines that may wait for the thread: some megabytes."""

FLUSH_SECONDS = 2.0
"""How long the end of the log may take, should nobody take what is written."""

MAX_EXCEPTION = 16 * 1024
"""Characters kept of a traceback: its head and its tail, which tell the most."""

_QUIET: Final = ("httpx", "httpcore", "hpack", "h2")
"""Libraries that tell of every request at ``info``, and its headers, signatures included, at ``debug``."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_STANDARD = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})

_ANNOUNCEMENT: Final = "announcement_"

_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
_CONTROL.update({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"})
_BLOCK: Final = {code: text for code, text in _CONTROL.items() if code != ord("\n")}

Render = Callable[[logging.LogRecord], str]


class Logs:
    """The open log."""

    def __init__(self, settings: LogSettings, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self._dropped_unsaid = 0
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self.dropped = 0
        """Lines lost because the queue was full or the stream failed."""
        self.redactor = Redactor()
        self.handler = _LineHandler(self)
        self._render: Render = self._as_json
        self.apply(settings)

    def apply(self, settings: LogSettings) -> None:
        """Take over the level and the format; also for a reload."""
        self.level = _LEVELS[settings.level]
        text = settings.format == "text" or (settings.format == "auto" and self._stream.isatty())
        self._render = self._as_text if text else self._as_json
        if self.handler in logging.root.handlers:
            logging.root.setLevel(self.level)

    def hide(self, *secrets: str | None) -> None:
        """Replace these values wherever they turn up, beside what looks like a secret anyway."""
        self.redactor.hide(*secrets)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def close(self) -> None:
        """Write what is queued, for at most `FLUSH_SECONDS`."""
        deadline = time.monotonic() + FLUSH_SECONDS
        try:
            self._lines.put(None, timeout=FLUSH_SECONDS)
        except queue.Full:
            return  # nobody takes what is written, so nobody misses the rest
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def put(self, record: logging.LogRecord) -> None:
        """Queue the line of ``record``; never waits, never raises."""
        announced = record.__dict__.get(_ANNOUNCEMENT)
        try:
            line = self._render(record) if announced is None else self._announcement(record, announced)
        except Exception as error:  # noqa: BLE001 - a log line must not break what it tells of
            line = self._broken(record, error)
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._drop(1)

    def _drop(self, count: int) -> None:
        # Two threads may count one drop as one; that it is about right is enough.
        self.dropped += count
        self._dropped_unsaid += count

    def _write_lines(self) -> None:
        while True:
            batch, ended = self._next_batch()
            if self._dropped_unsaid:
                unsaid, self._dropped_unsaid = self._dropped_unsaid, 0
                batch.append(self._render(_dropped_record(unsaid)))
            try:
                self._stream.write("".join(batch))
                self._stream.flush()
            except (OSError, ValueError):  # a full disk, a reader that went away, a stream that was closed
                self._drop(len(batch))
            if ended:
                return

    def _next_batch(self) -> tuple[list[str], bool]:
        """Wait for a line, and take those that stand behind it: one write for all."""
        line = self._lines.get()
        batch: list[str] = []
        while line is not None:
            batch.append(line)
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _as_json(self, record: logging.LogRecord) -> str:
        redactor = self.redactor
        entry: dict[str, Any] = {
            "timestamp": format_ms(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redactor.text(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                entry[name if name not in entry else f"{name}_"] = redactor.field(name, value)
        if exception := self._exception(record):
            entry["exception"] = exception
        return _json_line(entry)

    def _as_text(self, record: logging.LogRecord) -> str:
        redactor = self.redactor
        head = (
            f"{format_ms(int(record.created * 1000))} {record.levelname.lower():<7} "
            f"{record.name.removeprefix('econeura_daemon.')}: {redactor.text(record.getMessage())}"
        )
        fields = [
            f"{name}={redactor.field(name, value)}"
            for name, value in record.__dict__.items()
            if name not in _STANDARD
        ]
        # A line feed in what a caller sent must not look like a further line of the log.
        line = " ".join([head, *fields]).translate(_CONTROL)
        if exception := self._exception(record):
            line = f"{line}\n{exception['traceback']}".translate(_BLOCK)
        return line + "\n"

    def _announcement(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        entry = {name: self.redactor.field(name, value) for name, value in fields.items()}
        return _json_line(
            {"event": record.getMessage(), **entry, "timestamp": format_ms(int(record.created * 1000))}
        )

    def _exception(self, record: logging.LogRecord) -> dict[str, str] | None:
        if not record.exc_info or record.exc_info[1] is None:
            return None
        error = record.exc_info[1]
        text = "".join(traceback.format_exception(error)).rstrip()
        if len(text) > MAX_EXCEPTION:
            half = MAX_EXCEPTION // 2
            text = f"{text[:half]}\n… {len(text) - MAX_EXCEPTION} characters left out …\n{text[-half:]}"
        return {
            "type": type(error).__qualname__,
            "message": self.redactor.text(str(error)),
            "traceback": self.redactor.text(text),
        }

    def _broken(self, record: logging.LogRecord, error: Exception) -> str:
        return _json_line(
            {
                "timestamp": format_ms(int(record.created * 1000)),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": f"a log line could not be made: {type(error).__name__}",
                "pathname": record.pathname,
                "lineno": record.lineno,
            }
        )


class _LineHandler(logging.Handler):
    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.put(record)


@contextmanager
def open_logging(settings: LogSettings, stream: TextIO | None = None) -> Generator[Logs]:
    """Log to ``stream`` (standard error) for the length of the block; leave the block written out.

    It is the root logger's only handler meanwhile; what was set before is restored. Python's warnings are
    logged too.
    """
    logs = Logs(settings, stream or sys.stderr)
    root = logging.root
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in _QUIET}
    root.handlers[:] = [logs.handler]
    root.setLevel(logs.level)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logs.start()
    try:
        yield logs
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, before in quiet.items():
            logging.getLogger(name).setLevel(before)
        logs.close()


def announce(event: str, /, **fields: Any) -> None:
    """Log one line ``{"event": event, …fields, "timestamp": …}``, in JSON whatever the format and the level.

    Programs that start the daemon wait for such a line (``ready``).
    """
    logger = logging.getLogger("econeura_daemon")
    record = logger.makeRecord(
        logger.name, logging.INFO, __file__, 0, event, (), None, extra={_ANNOUNCEMENT: fields}
    )
    logger.handle(record)  # past the level


def _dropped_record(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log lines were dropped because nobody took them",
            "lines": count,
        }
    )


def _json_line(entry: dict[str, Any]) -> str:
    try:
        return orjson.dumps(entry).decode() + "\n"
    except TypeError:  # lone surrogates, numbers beyond 64 bits
        import json

        return json.dumps(entry, default=str) + "\n"
