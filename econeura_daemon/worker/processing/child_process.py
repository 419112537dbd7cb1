"""The worker's end of a process that reads mails: started, asked one thing at a time, and ended."""

import math
import os
import subprocess
import sys

import orjson
import trio

from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.worker.processing import frames
from econeura_daemon.worker.processing.model import Processed, UnprocessableError
from econeura_daemon.worker.processing.rules import Rules

START_LIMIT = 60.0
"""Seconds until a process must be ready: it loads a model, on a machine that may be busy."""
_GRACE = 5.0
_ALARM_FACTOR = 1.5
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from econeura_daemon.worker.processing.child import main
main(float(sys.argv[2]), int(sys.argv[3]))
"""


class ChildEndedError(EconeuraError):
    """The process ended, or said what it should not. ``had_it_all``: after it had got the whole request."""

    def __init__(self, reason: str, *, had_it_all: bool) -> None:
        super().__init__(f"A process that reads mails {reason}")
        self.reason = reason
        self.had_it_all = had_it_all


class Child:
    """One such process."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests: trio.abc.SendStream = process.stdin
        self._answers: trio.abc.ReceiveStream = process.stdout
        self.rules: Rules | None = None
        self._is_asked = False

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @classmethod
    async def start(cls, rules: Rules, *, time_limit: float, memory_limit: int) -> "Child":
        """Start one and wait until it is ready. Raises `ChildEndedError` or OSError; then nothing is left of it."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", _PROGRAM, *_arguments(time_limit, memory_limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        child = cls(process)
        try:
            with trio.move_on_after(START_LIMIT):
                await child.take(rules)
        finally:
            if child.rules is None:
                await child.end()
        if child.rules is None:
            raise ChildEndedError(f"was not ready within {START_LIMIT:g} s", had_it_all=True)
        return child

    async def take(self, rules: Rules) -> None:
        """Judge by these rules from now on. Raises `ChildEndedError`; cancelled, it must be ended."""
        await self._ask(frames.RULES, frames.rules_payload(rules))
        self.rules = rules

    async def process(self, raw: bytes) -> Processed | UnprocessableError:
        """Process a mail. Raises `ChildEndedError`; cancelled, it must be ended."""
        answer = await self._ask(frames.MAIL, raw)
        try:
            return frames.outcome_of(answer)
        except (ValueError, TypeError, KeyError) as error:
            raise ChildEndedError(f"gave an answer that is none: {error}", had_it_all=True) from None

    async def end(self) -> None:
        """Let it end, or end it where it stands if it is busy; done when it is gone, even when cancelled."""
        with trio.CancelScope(shield=True):
            await self._requests.aclose()
            if not self._is_asked:
                with trio.move_on_after(_GRACE):
                    await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await self._answers.aclose()

    async def _ask(self, kind: bytes, payload: bytes) -> bytes:
        self._is_asked = True
        try:
            await self._requests.send_all(frames.header(kind, payload))
            await self._requests.send_all(payload)
        except trio.BrokenResourceError:
            raise ChildEndedError(await self._how_it_ended(), had_it_all=False) from None
        got, length = frames.HEADER.unpack(await self._receive(frames.HEADER.size))
        if got != frames.ANSWER or length > frames.ANSWER_LIMIT:
            raise ChildEndedError("gave an answer that is none", had_it_all=True)
        answer = await self._receive(length)
        self._is_asked = False
        return answer

    async def _receive(self, count: int) -> bytes:
        chunks = bytearray()
        while len(chunks) < count:
            chunk = await self._answers.receive_some(count - len(chunks))
            if not chunk:
                raise ChildEndedError(await self._how_it_ended(), had_it_all=True)
            chunks += chunk
        return bytes(chunks)

    async def _how_it_ended(self) -> str:
        with trio.move_on_after(_GRACE):
            await self._process.wait()
        code = self._process.returncode
        if code is None:
            return "closed its pipes"
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _arguments(time_limit: float, memory_limit: int) -> list[str]:
    # As `multiprocessing` does: the same modules are found there as here, wherever they were found.
    path = orjson.dumps([entry or os.getcwd() for entry in sys.path]).decode()  # noqa: PTH109 - a text is wanted
    alarm = math.ceil(time_limit * _ALARM_FACTOR + 1)
    return [path, str(alarm), str(memory_limit)]
