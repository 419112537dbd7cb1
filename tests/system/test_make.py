"""What `make` does on machines that lack something, in a tree whose path has a space."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """The files that setting up reads, and a folder of programs that stand before the system's own."""
    tree = tmp_path / "a clone"
    tree.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tree)
    (tmp_path / "programs").mkdir()
    return tree


def program(tree, name, text):
    path = tree.parent / "programs" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def make(tree, *arguments):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "COV"))
    }
    environment["PATH"] = f"{tree.parent / 'programs'}:{environment['PATH']}"
    return subprocess.run(
        ["make", *arguments],
        cwd=tree,
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def bare_python(tree):
    """Debian's python3 without python3-venv: `venv` is there, `ensurepip` is not."""
    return program(tree, "python3", f'case "$*" in *ensurepip*) exit 1;; esac\nexec "{sys.executable}" "$@"')


def test_make_alone_lists_every_target(tree):
    listed = {line.split()[1] for line in make(tree).stdout.splitlines()}
    assert {
        "run",
        "demo",
        "test",
        "check",
        "fmt",
        "lint",
        "types",
        "layers",
        "bench",
        "soak",
        "lock",
        "clean",
        "help",
    } <= listed


def test_without_python3_venv_a_user_is_told_the_one_command(tree):
    bare_python(tree)
    program(tree, "id", "echo 1000")
    program(tree, "apt-get", f"touch '{tree}/called'")
    done = make(tree, "run")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"\n  sudo apt-get update && sudo apt-get install -y python{version}-venv\n" in done.stderr
    assert done.returncode != 0
    assert not (tree / "called").exists()
    assert not (tree / ".venv").exists()


def test_without_python3_venv_root_installs_it_unasked(tree):
    bare_python(tree)
    program(tree, "id", "echo 0")
    program(tree, "apt-get", f'echo "$@" >> "{tree}/called"; case "$*" in *install*) exit 9;; esac')
    done = make(tree, "run")
    update, install = (tree / "called").read_text().splitlines()
    assert "update" in update
    assert install.endswith(f"install python{sys.version_info.major}.{sys.version_info.minor}-venv")
    assert done.returncode != 0  # as this apt-get could not install it


@pytest.mark.parametrize("python", ["/nowhere/python3.11", "old"])
def test_an_interpreter_that_will_not_do_is_said(tree, python):
    program(tree, "old", "exit 1")
    done = make(tree, "run", f"PYTHON={python}")
    assert "This needs Python 3.11 or later" in done.stderr
    assert done.returncode != 0


def test_running_starts_the_daemon_at_once_when_everything_is_set_up(tree):
    daemon = tree / ".venv" / "bin" / "econeura-daemon"
    daemon.parent.mkdir(parents=True)
    daemon.write_text('#!/bin/sh\necho "${0##*/}" "$@"\n')
    daemon.chmod(0o755)
    stamp = tree / ".venv" / ".run"
    stamp.touch()
    assert make(tree, "run").stdout == "econeura-daemon serve --config config/econeura.toml\n"
    os.utime(tree / "requirements.lock", (2**31, 2**31))
    assert "Setting up .venv" in make(tree, "--dry-run", "run").stdout


def test_a_version_of_python_has_an_environment_of_its_own(tree):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    done = make(tree, "--dry-run", "run", f"PYTHON={sys.executable}")
    assert f".venv-{version}/bin/econeura-daemon serve" in done.stdout
