"""Validate a data set: all problems at once, never only the first, and never a crash on bad input."""

from dsaml.data.checks.report import CheckReport, check

__all__ = ["CheckReport", "check"]
