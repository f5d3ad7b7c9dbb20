"""Exceptions whose text is shown to the user, and checks of numbers that raise them."""

import textwrap
from collections.abc import Mapping

# The largest side of an image, or number of anything else, that is accepted.
LARGEST_COUNT = 32_768


class UserError(ValueError):
    """Bad input: the text is one sentence that names what is wrong and the remedy.

    The text names arguments and config fields; the command line prints fields as they are typed.
    """


class NotPreparedError(UserError):
    """A data set is missing from the directory where it was expected.

    Attributes:
      what: the name of the data set and the directory, as the beginning of a sentence.
      name: the name of the data set.
      data_dir: the directory as given in the config; None for the default directory of TFDS.
    """

    def __init__(self, what: str, name: str, data_dir: str | None):
        super().__init__(f"{what}; prepare it first.")
        self.what, self.name, self.data_dir = what, name, data_dir


class Interrupted(BaseException):
    """A signal stopped training; the text says how to resume, `status` is the exit status.

    Like `KeyboardInterrupt`, it is not caught by handlers of `Exception`.
    """

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


def check_counts(counts: Mapping[str, int]) -> None:
    """Raise `UserError` for the first of the named numbers that is not from 1 to 32,768."""
    for name, count in counts.items():
        if not 1 <= count <= LARGEST_COUNT:
            remedy = "1 or more" if count < 1 else f"{LARGEST_COUNT} or less"
            raise UserError(f"The {name} is {count}; choose {remedy}.")


def first_sentence(error: BaseException | str) -> str:
    """Return the first sentence of another library's exception, cut to a readable length."""
    text = textwrap.shorten(str(error).partition(". ")[0], 200).strip(".")
    # The text of a KeyError is in quotes; its first sentence may have only the opening quote.
    is_quoted = text[:1] == "'" and (text.count("'") == 1 or text.find("'", 1) == len(text) - 1)
    return text.strip("'") if is_quoted else text
