"""The command line: ``python -m dsaml COMMAND --help``."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from concurrent.futures import BrokenExecutor
from typing import NoReturn

import typer

from dsaml import __version__, address
from dsaml.cli import data, listen, models, repository, study
from dsaml.errors import DsamlError, printable

ISSUES = f"at {address.URL}/issues" if address.PUBLISHED else "to whom you have it from"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Personalized dynamic music emotion recognition (PDMER): valence and arousal at 2 Hz, for one listener.",
)
for part in (repository, data, models, listen):
    app.add_typer(part.app)
app.add_typer(study.study_app, name="study")


STOPPED = "stopped; what was finished is kept, and the same command goes on from there"
KNOWN = {  # what an operating system refuses, and is no bug
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ETXTBSY, errno.EXDEV,
}  # fmt: skip


def _terminate(number: int, frame: object) -> None:
    """SIGTERM ends a command as Ctrl-C does: through every ``finally``."""
    signal.signal(number, signal.SIG_IGN)  # once is enough
    print(STOPPED, file=sys.stderr)
    sys.exit(128 + number)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; whatever goes wrong becomes one sentence and exit code 1.

    A user's mistake says what to do. What nobody expected says where to report it, and leaves its traceback in a file.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        app(arguments)
    except DsamlError as error:
        _fail(str(error))
    except BrokenExecutor:
        _fail(f"a worker process was ended from outside (too little memory?); {STOPPED}")
    except KeyboardInterrupt:
        typer.echo(STOPPED, err=True)
        sys.exit(130)
    except MemoryError:
        _fail("there is not enough memory; close other programs, or take shorter songs or a smaller profile")
    except OSError as error:
        if error.errno not in KNOWN:
            _fail(_report(error))
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        _fail(f"{where}{error.strerror}; check the name, the permissions and the free space")
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not loaded for its name alone
            _fail("the GPU has not enough memory; end what else runs on it, or take --device cpu or a smaller profile")
        _fail(_report(error))


def _fail(sentence: str) -> NoReturn:
    """Print one sentence, with line breaks and the like (names of files may hold some) made visible, and leave: exit code 1."""
    print(f"error: {printable(sentence)}", file=sys.stderr)
    sys.exit(1)


def _report(error: Exception) -> str:
    """Write the traceback of an unexpected error to a file, and say where it is and where to report it."""
    text = "".join(traceback.format_exception(error))
    said = (str(error).splitlines() or ["no message"])[0]
    sentence = f"this is a mistake in dsaml ({type(error).__name__}: {said}); please report it {ISSUES}"
    try:
        handle, file = tempfile.mkstemp(prefix="dsaml-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"dsaml {__version__}, {sys.version}\n{text}")
    except OSError:
        return f"{sentence} (its traceback could not be written to a file)"
    return f"{sentence} with the file {file}"
