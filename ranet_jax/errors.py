"""The one exception that speaks to the user."""


class UserError(Exception):
    """Bad input: its text is one sentence that names the thing and the remedy."""
