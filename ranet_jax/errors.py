"""The exceptions that speak to the user."""

import textwrap


class UserError(ValueError):
    """Bad input: its text is one sentence that names the thing and the remedy.

    It speaks of arguments and fields of the config; the command line says how they are typed.
    """


class NotPreparedError(UserError):
    """A data set is not where it is looked for.

    Attributes:
      what: its name and the directory, as the beginning of a sentence.
      name: of the data set.
      data_dir: as the config has it; None for TFDS's directory.
    """

    def __init__(self, what: str, name: str, data_dir: str | None):
        super().__init__(f"{what}; prepare it first.")
        self.what, self.name, self.data_dir = what, name, data_dir


class Interrupted(BaseException):
    """A signal stopped training; its text says how to go on, `status` is the exit status.

    Like `KeyboardInterrupt`, it is not caught where errors are.
    """

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


def first_sentence(error: BaseException | str) -> str:
    """What an exception of another library says, cut to a length that can be read."""
    text = textwrap.shorten(str(error).partition(". ")[0], 200).strip(".")
    # Those of KeyError are in quotes, of which a sentence may have the first alone.
    is_quoted = text[:1] == "'" and (text.count("'") == 1 or text.find("'", 1) == len(text) - 1)
    return text.strip("'") if is_quoted else text
