"""The exceptions that speak to the user, and checks of numbers that raise them."""

import textwrap
from collections.abc import Mapping

# The largest side of an image, and number of anything else, that is taken at its word.
LARGEST_COUNT = 32_768


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


def check_counts(counts: Mapping[str, int]) -> None:
    """Raise `UserError` for the first of some named numbers that is not from 1 to 32,768."""
    for name, count in counts.items():
        if not 1 <= count <= LARGEST_COUNT:
            remedy = "1 or more" if count < 1 else f"{LARGEST_COUNT} or less"
            raise UserError(f"The {name} is {count}; choose {remedy}.")


def first_sentence(error: BaseException | str) -> str:
    """What an exception of another library says, cut to a length that can be read."""
    text = textwrap.shorten(str(error).partition(". ")[0], 200).strip(".")
    # Those of KeyError are in quotes, of which a sentence may have the first alone.
    is_quoted = text[:1] == "'" and (text.count("'") == 1 or text.find("'", 1) == len(text) - 1)
    return text.strip("'") if is_quoted else text
