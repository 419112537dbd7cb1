"""Mails that nobody here wrote: those of CPython's own test-suite, found beside the interpreter's library.

Debian puts them into a package of their own, which `make test-packages` installs; tests that need them are marked
``slow``, so that `make check` does without. Run as a program, this says by its exit code whether they are there.
"""

import sys
import sysconfig
from pathlib import Path


def cpython_mails():
    """Return the message files, in the order of their names. Raises LookupError where there are none."""
    libraries = [Path(sysconfig.get_path("stdlib")), *sorted(Path("/usr/lib").glob("python3.*"))]
    for library in libraries:
        mails = sorted((library / "test" / "test_email" / "data").glob("msg_*.txt"))
        if mails:
            return mails
    raise LookupError("CPython's test-suite is not installed: make test-packages")


if __name__ == "__main__":
    try:
        cpython_mails()
    except LookupError as error:
        sys.exit(str(error))
