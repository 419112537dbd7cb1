"""What is said between the worker and a process that reads mails for it, over a pair of pipes.

A frame is a letter, eight bytes of length, most significant first, and as many bytes: ``R`` rules (JSON), ``M`` a mail
as it is; back comes ``A``, an answer in JSON. Not pickle: who reads mails of strangers is not trusted with one.
"""

import struct
from typing import Any

import attrs
import orjson

from econeura_daemon.worker.processing.model import Processed, UnprocessableError
from econeura_daemon.worker.processing.rules import Rules

RULES = b"R"
MAIL = b"M"
ANSWER = b"A"
HEADER = struct.Struct(">cQ")
ANSWER_LIMIT = 4 * 1024 * 1024


def header(kind: bytes, payload: bytes) -> bytes:
    """Return what goes before the payload, which may be too large to be copied."""
    return HEADER.pack(kind, len(payload))


def rules_payload(rules: Rules) -> bytes:
    """Return the rules for another process."""
    return orjson.dumps([rules.text, rules.name])


def rules_of(payload: bytes) -> Rules:
    """Read rules that were checked where they come from."""
    text, name = orjson.loads(payload)
    return Rules(text, name)


def ready_answer() -> bytes:
    """Return the answer to rules: they are in force."""
    return orjson.dumps({"ready": True})


def processed_answer(processed: Processed) -> bytes:
    """Return the answer to a mail that has a result."""
    return orjson.dumps({"processed": attrs.asdict(processed, recurse=False)})


def refused_answer(reason: str) -> bytes:
    """Return the answer to a mail that has none."""
    return orjson.dumps({"unprocessable": reason.encode("utf-8", "replace").decode()})


def outcome_of(payload: bytes) -> Processed | UnprocessableError:
    """Read an answer to a mail. Raises ValueError where it is none."""
    answer: dict[str, Any] = orjson.loads(payload)
    if "processed" in answer:
        return Processed(**{**answer["processed"], "defects": tuple(answer["processed"]["defects"])})
    if "unprocessable" in answer:
        return UnprocessableError(answer["unprocessable"])
    raise ValueError("an answer that says nothing about a mail")
