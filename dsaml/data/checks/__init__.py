"""Validate a data set: all problems at once, never only the first, and never a crash on bad input."""

from dsaml.data.checks.report import Report, check

__all__ = ["Report", "check"]
