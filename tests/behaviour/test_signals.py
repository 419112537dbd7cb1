"""Signals, each test in a process of its own: they belong to the process, and the hard stop ends it.

A child is a few lines after `PREAMBLE`; it prints words, for which its parent waits before it sends
the next signal.
"""

import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest

PREAMBLE = """
import signal, threading, time
import trio, trio.testing
from econeura_daemon.supervision.signals import HardStop, open_hard_stop, open_signals

def say(word):
    print(word, flush=True)

async def only_say():
    say("reload")

def run(body, *, reload=only_say, seconds=60):
    # As the daemon does it: the hard stop outlives the loop, and nobody disarms it.
    async def main():
        drained = trio.Event()
        def drain():
            say("drain")
            drained.set()
        with trio.CancelScope() as scope:
            def cancel():
                say("cancel")
                scope.cancel()
            async with open_signals(hard_stop=hard_stop, drain=drain, cancel=cancel, reload=reload):
                say("up")
                await body(drained, hard_stop)
        say("left")
    hard_stop = HardStop(seconds)
    hard_stop.start()
    trio.run(main)
"""


class Child:
    def __init__(self, process):
        self.process = process

    def hears(self, *words):
        assert [self.process.stdout.readline().strip() for _ in words] == list(words)

    def gets(self, number):
        self.process.send_signal(number)

    def ends(self):
        """Return the exit code and what stands on standard error."""
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@contextmanager
def child(body):
    """Run ``body`` in a process until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_a_drained_process_exits_with_0(number):
    with child("""
        async def body(drained, hard_stop):
            await drained.wait()
            await trio.sleep(0.01)
        run(body)
    """) as daemon:
        daemon.hears("up")
        daemon.gets(number)
        daemon.hears("drain", "left")
        assert daemon.ends() == (0, "")


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_the_second_signal_cancels(numbers):
    with child("""
        async def body(drained, hard_stop):
            await trio.sleep_forever()
        run(body)
    """) as daemon:
        daemon.hears("up")
        daemon.gets(numbers[0])
        daemon.hears("drain")
        daemon.gets(numbers[1])
        daemon.hears("cancel", "left")
        assert daemon.ends()[0] == 0


@pytest.mark.parametrize(
    "hang",
    [
        "time.sleep(1000)",
        "while True: pass",
        "threading.Lock().__enter__(); lock = threading.Lock(); lock.acquire(); lock.acquire()",
    ],
)
def test_a_blocked_loop_is_ended_by_force_with_70_and_says_where_it_hung(hang):
    with child(f"""
        async def hang_here(drained, hard_stop):
            say("hanging")
            {hang}
        run(hang_here, seconds=0.3)
    """) as daemon:
        daemon.hears("up", "hanging")
        daemon.gets(signal.SIGTERM)
        code, err = daemon.ends()
        assert code == 70
        assert "the drain took longer than 0.3 s" in err
        assert "in hang_here" in err


def test_a_drain_that_never_ends_is_ended_by_force_with_70():
    with child("""
        async def body(drained, hard_stop):
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        run(body, seconds=0.3)
    """) as daemon:
        daemon.hears("up")
        daemon.gets(signal.SIGTERM)
        daemon.gets(signal.SIGTERM)
        assert daemon.ends()[0] == 70


def test_a_thread_that_hangs_after_the_loops_end_is_ended_by_force_with_70():
    with child("""
        async def body(drained, hard_stop):
            threading.Thread(target=time.sleep, args=(1000,)).start()
            await drained.wait()
        run(body, seconds=0.3)
    """) as daemon:
        daemon.hears("up")
        daemon.gets(signal.SIGTERM)
        daemon.hears("drain", "left")
        assert daemon.ends()[0] == 70


def test_the_time_may_change_until_the_first_signal():
    with child("""
        async def body(drained, hard_stop):
            hard_stop.seconds = 0.1
            say("changed")
            await trio.sleep_forever()
        run(body, seconds=1000)
    """) as daemon:
        daemon.hears("up", "changed")
        daemon.gets(signal.SIGTERM)
        assert daemon.ends()[0] == 70


def test_hang_up_reloads_and_one_that_fails_changes_nothing():
    with child("""
        reloads = []
        async def reload():
            reloads.append(1)
            say(f"reload {len(reloads)}")
            if len(reloads) == 1:
                raise ValueError("a bad file")
        async def body(drained, hard_stop):
            await drained.wait()
        run(body, reload=reload)
    """) as daemon:
        daemon.hears("up")
        daemon.gets(signal.SIGHUP)
        daemon.hears("reload 1")
        daemon.gets(signal.SIGHUP)
        daemon.hears("reload 2")
        daemon.gets(signal.SIGTERM)
        daemon.hears("drain", "left")
        code, err = daemon.ends()
        assert code == 0
        assert "the reload failed; the settings stay as they were" in err
        assert "ValueError: a bad file" in err


def test_hang_ups_during_a_reload_make_one_more():
    with child("""
        reloads, first_may_end = [], trio.Event()
        async def reload():
            reloads.append(1)
            if len(reloads) == 1:
                await first_may_end.wait()
        async def body(drained, hard_stop):
            for _ in range(5):
                signal.raise_signal(signal.SIGHUP)
                await trio.testing.wait_all_tasks_blocked()
            say(len(reloads))
            first_may_end.set()
            await trio.testing.wait_all_tasks_blocked()
            say(len(reloads))
        run(body, reload=reload)
    """) as daemon:
        daemon.hears("up", "1", "2", "left")


def test_a_signal_during_a_long_reload_drains_at_once():
    with child("""
        async def reload():
            say("reloading")
            await trio.sleep_forever()
        async def body(drained, hard_stop):
            await drained.wait()
        run(body, reload=reload)
    """) as daemon:
        daemon.hears("up")
        daemon.gets(signal.SIGHUP)
        daemon.hears("reloading")
        daemon.gets(signal.SIGTERM)
        daemon.hears("drain", "left")
        assert daemon.ends()[0] == 0


def test_leaving_gives_the_signals_back_and_disarms():
    with child("""
        async def main():
            with open_hard_stop(0.1) as hard_stop:
                async with open_signals(
                    hard_stop=hard_stop, drain=lambda: say("drain"), cancel=print, reload=print
                ):
                    say("up")
                    while not hard_stop.armed:
                        await trio.lowlevel.checkpoint()
            assert not [t for t in threading.enumerate() if t.name == "hard-stop"]
            say("left")
            time.sleep(0.3)
        before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
        trio.run(main)
        assert before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    """) as daemon:
        daemon.hears("up")
        daemon.gets(signal.SIGTERM)
        code, err = daemon.ends()
        assert (code, err) == (0, "")
