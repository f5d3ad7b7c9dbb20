"""The exceptions that speak to the user."""


class UserError(Exception):
    """Bad input: its text is one sentence that names the thing and the remedy."""


class Interrupted(Exception):
    """SIGTERM stopped training; its text says how to go on."""
