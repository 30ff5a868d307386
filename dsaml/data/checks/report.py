"""What ``check`` found: problems with file and line, and the numbers a researcher wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsaml.config import DEMO, Profile
from dsaml.data.base import load_dataset, require_dataset
from dsaml.data.checks.audio import check_audio
from dsaml.data.checks.summary import summarize
from dsaml.data.checks.training import obstacles
from dsaml.data.findings import Exclusion, Findings, Problem
from dsaml.errors import DsamlError, printable


@dataclass(frozen=True)
class CheckReport:
    """The result of :func:`check`.

    ``obstacles`` are why the training called ``mode`` would stop, see :func:`dsaml.data.checks.training.obstacles`. They are no
    errors: such a data set can still be scored.
    """

    dataset: str
    root: Path
    problems: list[Problem]  # errors first
    summary: dict[str, Any]  # what was found that can be used
    exclusions: tuple[Exclusion, ...]  # what the loader leaves out
    mode: str  # "dmer" or "pdmer"
    obstacles: list[str]

    @property
    def errors(self) -> int:
        """How many problems matter."""
        return sum(p.severity == "error" for p in self.problems)

    @property
    def ok(self) -> bool:
        """Whether nothing that matters is wrong."""
        return not self.errors

    def to_json(self) -> str:
        """Everything as JSON text."""
        problems = [
            {"severity": p.severity, "kind": p.kind, "file": printable(str(p.path)), "line": p.line}
            | {"problem": printable(p.message)}
            for p in self.problems
        ]
        head = {"dataset": self.dataset, "root": printable(str(self.root)), "ok": self.ok, "errors": self.errors}
        head |= {"notices": len(self.problems) - self.errors, "problems": problems, "summary": self.summary}
        head["training"] = {"mode": self.mode, "obstacles": [printable(text) for text in self.obstacles]}
        head["exclusions"] = [{"subject": printable(e.subject), "reason": printable(e.reason)} for e in self.exclusions]
        return json.dumps(head, indent=1, ensure_ascii=False)

    def lines(self) -> Iterator[str]:
        """A table with one line per problem, then the summary."""
        wheres = [self._where(p) for p in self.problems]
        width = min(max(map(len, wheres), default=0), 60)
        for problem, where in zip(self.problems, wheres, strict=True):
            kind = f" [{problem.kind}]" if problem.severity == "error" else ""
            yield f"{problem.severity:6}  {where:{width}}  {printable(problem.message)}{kind}"
        for text in self.obstacles:
            yield f"stops training ({self.mode})  {printable(text)}"
        yield ""
        for name, value in self.summary.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
            yield f"{name:38}  {printable(str(value))}"
        notices = len(self.problems) - self.errors
        yield ""
        stops = f"; training ({self.mode}) would stop: see above" if self.obstacles else ""
        yield f"{self.dataset}: {'OK' if self.ok else 'NOT OK'}: {self.errors} errors, {notices} notices{stops}"

    def _where(self, problem: Problem) -> str:
        """File, below the root if it is, and line."""
        path = problem.path
        name = str(path.relative_to(self.root)) if path != self.root and path.is_relative_to(self.root) else str(path)
        return printable(f"{name}:{problem.line}" if problem.line else name)


def check(
    name: str,
    root: str | Path,
    *,
    labels_only: bool = False,
    profile: Profile = DEMO,
    mode: str | None = None,
    memory: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport:
    """Check everything about a data set.

    Parameters
    ----------
    name : str
        One of :data:`dsaml.data.base.LOADERS`.
    labels_only : bool
        Say nothing about audio and training: enough for floors. Otherwise every file is decoded to its end.
    profile : Profile
        Whose training is judged.
    mode : {"dmer", "pdmer"}, optional
        The training that is judged; by default pdmer where annotators' own labels can be used.
    memory : path, optional
        A file that keeps what was found in audio files, by their content: nothing is decoded twice.
    progress : callable
        Called with (audio files checked, audio files in all).

    Raises
    ------
    DsamlError
        If the name is unknown or the folder does not exist; never for what is in the folder.
    """
    root = Path(root)
    require_dataset(name, root)
    found, dataset = Findings(root, labels_only), None
    try:
        try:
            dataset = load_dataset(name, root, found)
        except DsamlError as error:
            if not any(p.severity == "error" for p in found.problems):
                found.error(root, f"cannot be loaded: {error}")
        if not labels_only:
            check_audio(found, progress, memory)
    except Exception as error:  # whatever a damaged file provokes must end in a report
        found.error(root, f"the check stopped here ({type(error).__name__}: {error}); what follows was not checked")
    problems = sorted(found.problems, key=lambda p: p.severity != "error")
    mode = mode or ("pdmer" if dataset and dataset.tracks else "dmer")
    reasons = obstacles(dataset, profile, mode) if dataset and not labels_only else []
    exclusions = dataset.exclusions if dataset else ()
    return CheckReport(name, root, problems, found.counts | summarize(dataset), exclusions, mode, reasons)
