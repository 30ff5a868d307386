"""The one exception that means "the user can fix this", and what is asked of every file before it is opened."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


class DsamlError(Exception):
    """A mistake in the input, said in one sentence: which file, what is wrong, what to do.

    The command line prints the sentence and exits with code 1; it never shows a traceback for it.
    """


def require_file(path: Path, what: str, advice: str) -> None:
    """Let nothing but a plain file through: opening a pipe would wait for ever.

    Parameters
    ----------
    path : Path
    what : str
        The kind of file that is wanted, for "no such ...".
    advice : str
        What to do otherwise.

    Raises
    ------
    DsamlError
        If there is no such file, or it is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        wrong = f"no such {what}" if missing else f"cannot be read ({error.strerror})"
        raise DsamlError(f"{path}: {wrong}; {advice}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise DsamlError(f"{path}: {kind}, not a file; {advice}")
