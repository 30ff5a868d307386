"""The one exception that means "the user can fix this", and what is asked of every file before it is read or written."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class DsamlError(Exception):
    """A mistake in the input, said in one sentence: which file, what is wrong, what to do.

    The command line prints the sentence and exits with code 1; it never shows a traceback for it.
    """


def printable(text: str) -> str:
    """One line that every terminal and JSON file can take, whatever the name of a file in it was."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def require_file(path: Path, what: str, advice: str) -> None:
    """Let nothing but a plain file through: opening a pipe would wait for ever.

    Raises
    ------
    DsamlError
        "No such ``what``", or it is a folder, a pipe, a socket or a device; ``advice`` says what to do.
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


def check_replaceable(path: Path) -> Path:
    """Where a file called ``path`` is really written: a link stays, and the file that it points to is replaced.

    Raises
    ------
    DsamlError
        If it is a folder, a device, a pipe, a socket, or a link that leads nowhere but to itself.
    """
    target = Path(os.path.realpath(path))
    try:
        kind = os.stat(target).st_mode
    except FileNotFoundError:
        return target
    except OSError as error:
        raise DsamlError(f"{path}: cannot be written ({error.strerror}); choose another name") from error
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a device, a pipe or a socket"
        raise DsamlError(f"{path}: is {what}, not a file; choose another name")
    return target
