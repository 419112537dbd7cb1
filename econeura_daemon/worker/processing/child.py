"""The process that reads mails: a loop over standard input, which ends with it.

It outlives nobody: when the worker is gone, however it went, standard input ends; and while a mail keeps it from
looking there, its own alarm ends it. It is told to end by nothing else: SIGTERM and SIGINT come to the whole group of
a service, and the worker may still want what it is reading.
"""

import os
import resource
import signal
import sys
import traceback
from typing import BinaryIO

from econeura_daemon.worker.processing import frames, language
from econeura_daemon.worker.processing.model import UnprocessableError
from econeura_daemon.worker.processing.processing import process
from econeura_daemon.worker.processing.rules import Rules


def main(time_limit: float, memory_limit: int) -> None:
    """Answer until standard input ends. ``time_limit``: seconds for a mail; ``memory_limit``: bytes of addresses."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    import phonenumbers  # noqa: F401 - now, not at the first mail

    language.load()
    _limit(resource.RLIMIT_AS, memory_limit)
    _limit(resource.RLIMIT_CORE, 0)
    serve(sys.stdin.buffer, out, time_limit)


def serve(requests: BinaryIO, answers: BinaryIO, time_limit: float) -> None:
    """Answer each frame with one."""
    rules: Rules | None = None
    while len(head := requests.read(frames.HEADER.size)) == frames.HEADER.size:
        kind, length = frames.HEADER.unpack(head)
        payload = requests.read(length)
        if len(payload) < length:
            return
        signal.setitimer(signal.ITIMER_REAL, time_limit)
        if kind == frames.RULES:
            rules = frames.rules_of(payload)
            answer = frames.ready_answer()
        else:
            assert rules is not None, "rules come before mails"
            answer = _answer(payload, rules)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            answers.write(frames.header(frames.ANSWER, answer) + answer)
            answers.flush()
        except BrokenPipeError:
            return


def _answer(raw: bytes, rules: Rules) -> bytes:
    try:
        return frames.processed_answer(process(raw, rules))
    except UnprocessableError as error:
        return frames.refused_answer(error.reason)
    except MemoryError:
        return frames.refused_answer("it needs more memory than there is for one mail")
    except Exception as error:  # noqa: BLE001 - a fault of ours must not be the end of what others wait for
        traceback.print_exc()
        return frames.refused_answer(f"a fault of the program: {type(error).__name__}: {error}"[:500])


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
