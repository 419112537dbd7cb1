"""Python 3.11.0 to 3.11.3 (Debian 12 has 3.11.2) wraps what an ``except*`` body raises in a group of one.

https://github.com/python/cpython/issues/103590, fixed in 3.11.4. A bare ``raise`` is not touched by it.
"""

import ast
from pathlib import Path

import econeura_daemon

PACKAGE = Path(econeura_daemon.__file__).parent


def raises_in(source):
    """Return the lines on which an ``except*`` body raises something new."""
    return [
        inner.lineno
        for tried in ast.walk(ast.parse(source))
        if isinstance(tried, ast.TryStar)
        for handler in tried.handlers
        for inner in ast.walk(handler)
        if isinstance(inner, ast.Raise) and inner.exc is not None
    ]


def test_nothing_new_is_raised_within_an_except_star():
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := raises_in(path.read_text()))
    }
    assert found == {}


def test_a_raise_within_an_except_star_would_be_found():
    assert raises_in("try:\n    a()\nexcept* OSError as e:\n    raise KeyError from e\n") == [4]
    assert raises_in("try:\n    a()\nexcept* OSError:\n    raise\n") == []
