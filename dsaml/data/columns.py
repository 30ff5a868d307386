"""Columns of tables whose documentation does not name them all: each may go by several names, and what is missing is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsaml.data.label_tables import Unreadable


def find_columns(header: Sequence[str], roles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which column is what, whatever its capitals.

    Parameters
    ----------
    header : sequence of str
        Names as they stand in the file.
    roles : mapping of role to its possible names
        The first one of them that the file has is taken.

    Returns
    -------
    dict of role to the name in the file

    Raises
    ------
    Unreadable
        Names every role without a column, and all columns of the file.
    """
    by_name = {name.lower(): name for name in reversed(header)}
    found = {role: next((by_name[n] for n in names if n in by_name), None) for role, names in roles.items()}
    if missing := [f"the {role} ({', '.join(roles[role])})" for role, name in found.items() if name is None]:
        lacking, there = " and none for ".join(missing), ", ".join(header)
        raise Unreadable(f"no column for {lacking}; the columns are: {there}; in a copy, rename the one that means it")
    return {role: name for role, name in found.items() if name is not None}
