"""Outgoing HTTP: our transport beside httpx, aiohttp and Node's undici, over hosts and concurrency.

    python -m benchmarks.http_client                    some minutes
    python -m benchmarks.http_client --quick
    python -m benchmarks.http_client --callers ours,aiohttp --hosts 1,5000 --concurrency 10

Each client is a process of its own on one cpu, in turn, round by round; the server is on another. Every host is
called once before anything is counted, so what is measured are kept connections: a POST of 400 bytes, answered
200. How much of its cpu the server used meanwhile is shown too: near 100 % the rate is the server's, and only the
client's CPU time tells clients apart. undici needs ``node``, and ``NODE_PATH`` set to a folder that holds the package;
without them its row is left out, and the output says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.answerer import address
from benchmarks.harness.processes import Cores, environment, pinned, running, wait_for
from benchmarks.harness.report import Spread, ratio, table

PYTHON = ("ours", "ours-httpx", "httpx", "aiohttp", "aiohttp-uvloop")
TITLES = {
    "ours": "ours, prepared",
    "ours-httpx": "ours, as httpx",
    "httpx": "httpx, a client a host",
    "aiohttp": "aiohttp",
    "aiohttp-uvloop": "aiohttp on uvloop",
    "undici": "undici",
}
TLS_HOSTS = 100
"""One certificate names them all."""


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--callers", default=",".join(TITLES), help="which; default: all")
    parser.add_argument("--hosts", default="1,100,5000")
    parser.add_argument("--concurrency", default="1,10,50")
    parser.add_argument("--seconds", type=float, help="a measurement; default 3, quick 1")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tls", choices=["both", "only", "no"], default="both")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    arguments.seconds = arguments.seconds or (1 if arguments.quick else 3)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.hosts = [int(n) for n in arguments.hosts.split(",")]
    arguments.concurrency = [int(n) for n in arguments.concurrency.split(",")]
    arguments.callers = arguments.callers.split(",")
    return arguments


def undici_missing() -> str | None:
    node = shutil.which("node")
    if node is None:
        return "there is no node"
    if not (Path(os.environ.get("NODE_PATH", "/nonexistent")) / "undici").is_dir():
        return "NODE_PATH names no folder that holds the package undici"
    return None


def call(caller: str, plan: dict[str, Any], cpu: int | None) -> dict[str, float]:
    """Run one client for one measurement."""
    rivals = Path(__file__).resolve().parent / "rivals"
    if caller == "undici":
        command = ["node", str(rivals / "undici_caller.mjs")]
    else:
        command = [sys.executable, "-m", "benchmarks.rivals.http_callers", caller]
    with pinned(cpu):
        done = subprocess.run(
            command,
            input=json.dumps(plan).encode(),
            stdout=subprocess.PIPE,
            env=environment(),
            check=True,
            timeout=120,
        )
    got = json.loads(done.stdout)
    return {
        "a_second": got["requests"] / got["seconds"],
        "cpu_us": got["cpu_seconds"] * 1e6 / max(1, got["requests"]),
        "server_busy": 100 * got["server_seconds"] / got["seconds"],
    }


@contextmanager
def serving(folder: Path, hosts: int, cores: Cores, *, tls: bool) -> Iterator[dict[str, Any]]:
    """Run the server for the length of the block; yield its URLs, its authority's certificate, its process."""
    arguments = ["-m", "benchmarks.harness.answerer", "--hosts", str(hosts)]
    authority = None
    if tls:
        import trustme

        authority = str(folder / "authority.pem")
        made = trustme.CA()
        made.cert_pem.write_to_path(authority)
        certificate = folder / "certificate.pem"
        made.issue_cert(*(address(n) for n in range(hosts))).private_key_and_cert_chain_pem.write_to_path(
            str(certificate)
        )
        arguments += ["--certificate", str(certificate)]
    log = folder / f"answerer-{hosts}-{tls}"
    with running(arguments, log, cores.load) as process:
        text = wait_for(lambda: log.read_text().rpartition("\n")[0], process, log)
        yield {"urls": json.loads(text.splitlines()[-1]), "authority": authority, "server": process.pid}


def measure(arguments: argparse.Namespace, callers: list[str], folder: Path) -> list[dict[str, Any]]:
    cores = Cores.choose()
    points = []
    schemes = {"both": (False, True), "only": (True,), "no": (False,)}[arguments.tls]
    for tls in schemes:
        numbers = sorted({min(n, TLS_HOSTS) for n in arguments.hosts} if tls else arguments.hosts)
        with serving(folder, numbers[-1], cores, tls=tls) as served:
            for hosts in numbers:
                for concurrency in arguments.concurrency:
                    plan = {
                        **served,
                        "urls": served["urls"][:hosts],
                        "concurrency": concurrency,
                        "seconds": arguments.seconds,
                    }
                    rounds: dict[str, list[dict[str, float]]] = {caller: [] for caller in callers}
                    for _ in range(arguments.rounds):
                        for caller in callers:
                            rounds[caller].append(call(caller, plan, cores.system))
                    point = {"tls": tls, "hosts": hosts, "concurrency": concurrency, "rounds": rounds}
                    points.append(point)
                    print(point_table(point), flush=True)
    return points


def point_table(point: dict[str, Any]) -> str:
    rounds = point["rounds"]
    first = next(iter(rounds))
    rows = [
        [
            TITLES[caller],
            Spread.of([one["a_second"] for one in got]).text(),
            Spread.of([one["cpu_us"] for one in got]).text(),
            Spread.of([one["server_busy"] for one in got]).text(),
            ratio(rounds[first], got, "a_second").text(2),
            ratio(got, rounds[first], "cpu_us").text(2),
        ]
        for caller, got in rounds.items()
    ]
    title = f"{point['hosts']} hosts, {point['concurrency']} at once, {'TLS' if point['tls'] else 'plain'}"
    head = [
        title,
        "requests/s",
        "CPU us a request",
        "server busy %",
        f"{TITLES[first]} is faster by",
        "and cheaper by",
    ]
    return table(head, rows) + "\n"


def main() -> None:
    arguments = read_arguments()
    callers = list(arguments.callers)
    if "undici" in callers and (why := undici_missing()):
        print(f"undici is left out: {why}\n")
        callers.remove("undici")
    with tempfile.TemporaryDirectory() as folder:
        points = measure(arguments, callers, Path(folder))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(points, indent=1))


if __name__ == "__main__":
    main()
