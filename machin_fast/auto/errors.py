"""What the command line says in one line, without a traceback."""


class CommandError(ValueError):
    """A command cannot do what its options ask for; the text says why, and what would help."""
