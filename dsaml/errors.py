"""The one exception that means "the user can fix this"."""


class DsamlError(Exception):
    """A mistake in the input, said in one sentence: which file, what is wrong, what to do.

    The command line prints the sentence and exits with code 1; it never shows a traceback for it.
    """
