"""Whose a file is that root makes in a folder of somebody else's."""

import os
import stat
from pathlib import Path


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """Give a file that was just made in ``folder`` to the folder's owner; only root can, and only root must.

    Root, at the command line, would otherwise leave a file that the daemon's own user cannot open. What has
    a second name somewhere, or is no plain file, was not made here and stays whose it is. Raises OSError.
    """
    if os.geteuid() != 0:
        return
    file, owner = os.fstat(descriptor), folder.stat()
    if stat.S_ISREG(file.st_mode) and file.st_nlink == 1 and file.st_uid == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
