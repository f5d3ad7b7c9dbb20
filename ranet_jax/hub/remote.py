"""The Hugging Face hub itself: fetching models from it and sending models to it.

`huggingface_hub` finds the user's token: HF_TOKEN of the environment, or what `hf auth login` left.
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
    """Refuse a name that cannot be a model of the hub, before any work is done for it.

    Raises:
      UserError: the name is not of the form `owner/name`, or `huggingface_hub` is not installed.
    """
    if not is_id(name):
        raise UserError(f"{name!r} is not the name of a model on the hub; write OWNER/NAME.")
    import_optional("huggingface_hub", "reach the hub")


def fetch(name: str, revision: str | None, files: Sequence[str]) -> pathlib.Path:
    """Directory in the user's cache with files of a model, which are fetched if necessary.

    Raises:
      UserError: `huggingface_hub` is not installed, or the model cannot be fetched.
    """
    hub = import_optional("huggingface_hub", "fetch a model from the hub")
    try:
        found = hub.snapshot_download(name, revision=revision, allow_patterns=list(files))
    except Exception as error:  # from several libraries, with no common type
        raise UserError(
            f"Model {name} cannot be fetched from the hub ({_reason(error)}); check that the name"
            " is right, that you may read the model and that the network is up, or name a"
            " directory."
        ) from error
    return pathlib.Path(found)


def send(directory: pathlib.Path, name: str, private: bool | None) -> str:
    """Send the files of a directory to the hub and return the model's address.

    Args:
      directory: the directory to send.
      name: `owner/name`; the repository is created if it does not exist.
      private: whether only the owner can see a repository that is created; if None, the owner's
        settings decide.

    Raises:
      UserError: `huggingface_hub` is not installed, or the model cannot be sent.
    """
    hub = import_optional("huggingface_hub", "send a model to the hub")
    api = hub.HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=directory, commit_message="Add the model")
    except Exception as error:  # from several libraries, with no common type
        raise UserError(
            f"The model cannot be sent to {name} ({_reason(error)}); log in with `hf auth login`,"
            " check that you may write there and that the network is up, then try again."
        ) from error
    return str(address)


def _reason(error: Exception) -> str:
    """The first sentence of an error's first line; the lines after it are for programmers."""
    return first_sentence(str(error).partition("\n")[0]) or type(error).__name__
