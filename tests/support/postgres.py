"""A PostgreSQL server for the tests: a private cluster in a temporary folder, on a unix socket only.

The first test that asks for it starts it (one a worker process of pytest-xdist), the end of the session stops it.
Its durability settings are the defaults, ``fsync`` included: it is to behave like the real thing.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

START_SECONDS = 60


class PostgresCluster:
    """A cluster that this process created and alone uses."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Unix socket paths are at most 107 bytes long: not pytest's own deep folders.
        self.folder = Path(tempfile.mkdtemp(prefix="econeura-pg-", dir="/tmp"))
        self._process: subprocess.Popen | None = None
        self._account = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            account = _unprivileged()
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._run(
            "initdb", f"--pgdata={self.folder}/data", "--username=econeura", "--auth=trust",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip

    def _run(self, program, *arguments):
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            check=False,
            text=True,
            **self._account,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start the server and return once it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres", "-D", f"{self.folder}/data", "-k", str(self.folder),
                    "-c", "listen_addresses=", "-c", "shared_buffers=32MB", "-c", "max_connections=60",
                ],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, and no lock is taken
                **self._account,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT disconnects everybody and shuts down, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop the server and remove what it kept."""
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """Return how to connect to ``database``."""
        return f"postgresql://econeura@/{database}?host={quote(str(self.folder), safe='')}"

    def execute(self, statement: str, database: str = "postgres") -> list:
        """Run one statement as the administrator."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def _die_with_parent() -> None:
    """Have the kernel shut the server down should the tests be killed (or the thread end that started it)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def find_programs() -> Path:
    """Return the folder of initdb and postgres: Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found is not None and shutil.which("postgres", path=str(Path(found).resolve().parent)):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql (make test does it)")
    return folders[-1]


@pytest.fixture(scope="session")
def postgres_cluster():
    """The session's PostgreSQL server. Whoever stops it starts it again."""
    cluster = PostgresCluster(find_programs())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


_numbers = count(1)


@pytest.fixture
def postgres_url(postgres_cluster):
    """The URL of a fresh, empty database."""
    name = f"test_{next(_numbers)}"
    postgres_cluster.execute(f"CREATE DATABASE {name}")
    yield postgres_cluster.url(name)
    postgres_cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")
