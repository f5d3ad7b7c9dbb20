"""The Hugging Face hub itself: models fetched from it and sent to it.

Who asks is what `huggingface_hub` finds: the environment's HF_TOKEN, or what `hf auth login` left.
"""

import pathlib
import re
from collections.abc import Sequence

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.porting.files import import_optional

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def is_id(name: str) -> bool:
    """Whether a name has the form `owner/name` of the hub's models."""
    return _ID.fullmatch(name) is not None


def check_id(name: str) -> None:
    """Refuse, before work is done for it, what cannot be a model of the hub.

    Raises:
      UserError: it is not of the form `owner/name`, or `huggingface_hub` is not installed.
    """
    if not is_id(name):
        raise UserError(f"{name!r} is no name of a model of the hub; write OWNER/NAME.")
    import_optional("huggingface_hub", "reach the hub")


def fetch(name: str, revision: str | None, files: Sequence[str]) -> pathlib.Path:
    """Directory of the user's cache with files of a model, which are fetched if need be.

    Raises:
      UserError: `huggingface_hub` is not installed, or there is no way to the model.
    """
    hub = import_optional("huggingface_hub", "fetch a model from the hub")
    try:
        found = hub.snapshot_download(name, revision=revision, allow_patterns=list(files))
    except Exception as error:  # of several libraries, which have no common type
        raise UserError(
            f"Model {name} cannot be fetched from the hub ({_reason(error)}); see that the name is"
            " right, that you may read it and that the network is up, or name a directory."
        ) from error
    return pathlib.Path(found)


def send(directory: pathlib.Path, name: str, private: bool | None) -> str:
    """Send the files of a directory to the hub and return the model's address.

    Args:
      directory: what to send.
      name: `owner/name`; it is made if there is none.
      private: whether one that is made is to be seen by its owner alone; None for what the owner's
        settings say.

    Raises:
      UserError: `huggingface_hub` is not installed, or the hub does not take it.
    """
    hub = import_optional("huggingface_hub", "send a model to the hub")
    api = hub.HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=directory, commit_message="Add the model")
    except Exception as error:  # of several libraries, which have no common type
        raise UserError(
            f"The model cannot be sent to {name} ({_reason(error)}); log in with `hf auth login`,"
            " see that you may write there and that the network is up, then try again."
        ) from error
    return str(address)


def _reason(error: Exception) -> str:
    """The first sentence of what went wrong; the lines after it are advice for programmers."""
    return first_sentence(str(error).partition("\n")[0]) or type(error).__name__
