"""The lock files are what a stranger's machine installs: complete, hashed, and tied to no index."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PYTHONS = ("3.11", "3.12", "3.13")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def entries(lock):
    """Every requirement of a lock with the number of its hashes."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement, *hashes = line.split("--hash=sha256:")
            yield Requirement(requirement.strip()), [value.strip() for value in hashes]


def pins(lock, python):
    """What a lock installs on Linux under one version of Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in entries(lock)
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def asked(*extras):
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in extras:
        lines += PROJECT["project"]["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_no_path_and_nothing_without_a_hash(lock):
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^\s*-[a-z-]|\s@\s|/", text.replace("--hash=sha256:", ""), re.MULTILINE)
    for requirement, hashes in entries(lock):
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ["postgres", "worker"]),
        ("requirements-dev.lock", sorted(PROJECT["project"]["optional-dependencies"])),
    ],
)
def test_a_lock_satisfies_the_project_on_every_python(lock, extras, python):
    locked = pins(lock, python)
    for requirement in asked(*extras):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked: make lock"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement}: {version} is locked"
        )


@pytest.mark.parametrize("python", PYTHONS)
def test_tests_run_on_the_very_versions_that_users_get(python):
    tested = pins("requirements-dev.lock", python)
    assert pins("requirements.lock", python).items() <= tested.items()


def test_one_pin_serves_every_python():
    assert pins("requirements-dev.lock", "3.11") == pins("requirements-dev.lock", "3.13")


def imported(*folders):
    """The foreign packages that the code below the folders imports, each with a file that does."""
    ours = {"econeura_daemon", "tests", "benchmarks"}
    found = {}
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in (name.partition(".")[0] for name in names if name):
                if name not in sys.stdlib_module_names and name not in ours:
                    found.setdefault(name, file.relative_to(ROOT))
    return found


@pytest.mark.parametrize(
    ("folders", "extras"),
    [(["econeura_daemon"], ["postgres", "otel", "worker"]), (["tests", "benchmarks"], ["postgres", "dev"])],
)
def test_what_is_imported_is_asked_for_by_name_not_by_luck(folders, extras):
    known = {canonicalize_name(requirement.name) for requirement in asked(*extras)}
    distributions = packages_distributions()
    for name, file in imported(*folders).items():
        provided = {canonicalize_name(distribution) for distribution in distributions.get(name, [])}
        assert provided & known, f"{file} imports {name}, which pyproject.toml does not ask for"
