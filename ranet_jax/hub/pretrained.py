"""The functions that users call to send a model to the hub and to load one."""

import os
import pathlib
import tempfile

from ranet_jax.checkpoints import workdir_of
from ranet_jax.errors import UserError
from ranet_jax.files import paths
from ranet_jax.files.paths import as_path
from ranet_jax.hub import remote
from ranet_jax.hub.card import Card
from ranet_jax.hub.directory import PICTURE, READ, write_directory
from ranet_jax.hub.scores import Score, find_scores
from ranet_jax.inference.model import Model, load
from ranet_jax.porting.published import is_published, load_description

PathLike = str | os.PathLike[str]


def save_pretrained(
    model: Model,
    directory: PathLike,
    run: PathLike | None = None,
    license: str | None = None,
    picture: PathLike | None = None,
    repo_id: str | None = None,
) -> None:
    """Write a model to a new directory in the form of the hub, with a model card.

    Args:
      model: saved with the settings of its config; `from_pretrained` returns one that predicts the
        same.
      directory: the directory to write.
      run: the working directory or exported model that `load` read the model from. The card shows
        its evaluations of these weights and, if no other picture is given, the sheet of images
        that `ranet evaluate --pictures` drew.
      license: the hub's identifier of the license of the weights, such as "apache-2.0".
      picture: image file to show in the card.
      repo_id: the model's `owner/name` on the hub, which the card then names.

    Raises:
      UserError: the directory exists or cannot be written, the run is of another model, a report
        or the picture cannot be read, or the license is not an identifier.
    """
    scores = () if run is None else scores_of(model, run)
    sheets = [score.picture for score in scores if score.picture is not None]
    shown = as_path(picture) if picture is not None else sheets[0] if sheets else None
    name = repo_id or paths.absolute(as_path(directory)).name
    card = Card(name, scores, license, None if shown is None else PICTURE)
    write_directory(directory, model, card, shown)


def scores_of(model: Model, run: PathLike) -> tuple[Score, ...]:
    """Scores of a model's weights in the directory that it was read from.

    Raises:
      UserError: there is no such directory, it is of another model, or a report cannot be read.
    """
    directory = workdir_of(paths.absolute(as_path(run)))
    if not paths.is_dir(directory):
        raise UserError(f"{directory} is not a run; name the directory that the model is from.")
    if load_description(directory)[1] != model.dataset:
        raise UserError(f"{directory} is not the run of this model; name the one that it is from.")
    return tuple(find_scores(directory, model.step))


def from_pretrained(name: PathLike, revision: str | None = None) -> Model:
    """The model in a directory that `save_pretrained` wrote, or on the hub.

    It predicts bit for bit what the saved one predicts.

    Args:
      name: the directory, or `owner/name` on the hub, which needs the extra `hub`.
      revision: branch, tag or commit on the hub; its main branch if not given.

    Raises:
      UserError: there is no such model, it cannot be fetched, or it is damaged.
    """
    directory = as_path(name)
    if not paths.exists(directory) and remote.is_id(str(name)):
        return load(remote.fetch(str(name), revision, READ))
    if not is_published(directory):
        raise UserError(
            f"{directory} holds no published model; name a directory that `ranet publish` wrote, or"
            " OWNER/NAME of a model of the hub, and read runs and exported models with"
            " `ranet_jax.load`."
        )
    if revision is not None:
        raise UserError(f"{directory} is a directory, which has no revisions; leave revision out.")
    return load(directory)


def push_to_hub(
    model: Model,
    repo_id: str,
    private: bool | None = None,
    run: PathLike | None = None,
    license: str | None = None,
    picture: PathLike | None = None,
) -> str:
    """Send a model to the hub, as `save_pretrained` writes it, and return its address.

    Args:
      model, run, license, picture: as for `save_pretrained`.
      repo_id: `owner/name`; the repository is created if it does not exist.
      private: whether only the owner can see a repository that is created; if not given, the
        owner's settings decide.

    Raises:
      UserError: as for `save_pretrained`, or the hub cannot be reached or refuses the model.
    """
    remote.check_id(repo_id)
    with tempfile.TemporaryDirectory(prefix="ranet_jax_") as scratch:
        directory = pathlib.Path(scratch, repo_id.rpartition("/")[2])
        save_pretrained(model, directory, run, license, picture, repo_id)
        return remote.send(directory, repo_id, private)
