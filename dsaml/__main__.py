"""The command line: ``python -m dsaml COMMAND --help``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from concurrent.futures import BrokenExecutor

# Before torch is imported: with two threads a spinning OpenMP pool can stall small recurrent steps for seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from rich.console import Console

from dsaml.commands import data, machine, models, study
from dsaml.errors import DsamlError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Personalized dynamic music emotion recognition (PDMER): valence and arousal at 2 Hz, for one listener.",
)
for part in (machine, data, models):
    app.add_typer(part.app)
app.add_typer(study.study_app, name="study")


STOPPED = "stopped; what was finished is kept, and the same command goes on from there"


def _terminate(number: int, frame: object) -> None:
    """SIGTERM ends a command as Ctrl-C does: through every ``finally``."""
    signal.signal(number, signal.SIG_IGN)  # once is enough
    print(STOPPED, file=sys.stderr)
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except DsamlError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(1)
    except BrokenExecutor:
        typer.echo(f"error: a worker process was ended from outside (too little memory?); {STOPPED}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo(STOPPED, err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
