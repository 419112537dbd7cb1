"""The four workflows of docs/workflows.md, happening: `make demo`, or `python -m benchmarks.demo`.

It starts a daemon, two workers services over a Maildir that it writes, and a receiver of webhooks, on free ports of
the loopback interface and in a temporary folder; ends by itself, or by Ctrl-C; and leaves nothing behind.
"""

import argparse
import sys

import trio

from benchmarks.demo.programs import ProgramError
from benchmarks.demo.transcript import Transcript
from benchmarks.demo.workflows import WORKFLOWS, Stage
from benchmarks.demo.world import open_world


async def show(numbers: list[int]) -> None:
    """Show these workflows."""
    transcript = Transcript()
    transcript.says("Starting a daemon, two workers services over one Maildir, and a receiver of webhooks …")
    async with open_world() as world:
        transcript.happened("ready", f"{world.daemon.url}, {len(world.ids)} mails in {world.mail}")
        for number in numbers:
            await WORKFLOWS[number - 1](Stage(world, transcript))
        transcript.title("End")
    transcript.says("Everything has ended, and the folder is gone.")


def main() -> None:
    """Show what was asked for; exit with 1 if a program failed, with 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workflows", nargs="*", type=_number, help=f"1 to {len(WORKFLOWS)}; all if not given")
    numbers = parser.parse_args().workflows or [*range(1, len(WORKFLOWS) + 1)]
    code = 0
    try:
        trio.run(show, numbers)
    except* KeyboardInterrupt:
        print("\nLeft; everything has ended, and the folder is gone.", file=sys.stderr)
        code = 130
    except* ProgramError as failed:
        print(f"\n{_first(failed)}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= len(WORKFLOWS):
        raise argparse.ArgumentTypeError(f"there is no workflow {text}; there are 1 to {len(WORKFLOWS)}")
    return int(text)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    main()
