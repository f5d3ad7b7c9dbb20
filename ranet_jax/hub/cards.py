"""Model cards for what `ranet export` and `ranet port` write."""

import os
from collections.abc import Sequence
from typing import Any

from ranet_jax.files import write_text
from ranet_jax.files.paths import Path, as_path
from ranet_jax.hub.card import Card, compose, write_card
from ranet_jax.hub.scores import Score
from ranet_jax.inference.export import Exported
from ranet_jax.inference.export.program import whole_image_model
from ranet_jax.inference.model import Model
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.porting import Ported
from ranet_jax.porting.published import LIBRARY
from ranet_jax.porting.verify import Difference, report

# Code that reads weights in PyTorch, by the suffix of the file.
READING = {
    ".pth": 'import torch\n\nstate_dict = torch.load("{file}", weights_only=True)\n',
    ".safetensors": (
        'from safetensors.torch import load_file\n\nstate_dict = load_file("{file}")\n'
    ),
}


def export_card(output: str | os.PathLike[str]) -> Path:
    """The path of an exported file's or directory's card, which lies beside it."""
    output = as_path(output)
    return output.with_name(f"{output.name}.md")


def write_export_card(
    output: str | os.PathLike[str], model: Model, exported: Exported, scores: tuple[Score, ...]
) -> None:
    """Write the card of an export beside it.

    Args:
      output: what `export` wrote.
      model: the model that was exported.
      exported: what `export` returned.
      scores: scores of the model's evaluations before it was exported.
    """
    name = as_path(output).name
    use = f"```python\n{exported.usage.format(file=name)}```\n\n{exported.report}"
    if scores:
        use += " The scores below are those of the model that was exported."
    card = Card(name, scores, use=use, sizes=exported.sizes)
    write_text(export_card(output), write_card(whole_image_model(model), card))


def write_weights_card(
    output: str | os.PathLike[str], model: Model, naming: str, scores: tuple[Score, ...]
) -> None:
    """Write the card of a file of weights beside it.

    Args:
      output: the file, .pth or .safetensors.
      model: the model that the weights belong to.
      naming: the naming that the tensors follow.
      scores: scores of the model's evaluations.
    """
    file = as_path(output)
    reader = READING[file.suffix].format(file=file.name)
    use = (
        "Only the weights, in PyTorch's layout. The tensors have the names of"
        f" {naming}:\n\n```python\n{reader}```\n\nThey do not include the normalisation: the"
        " program that uses them must normalise images as the next section says."
    )
    write_text(export_card(output), write_card(model, Card(file.name, scores, use=use)))


def port_card(
    name: str,
    ported: Ported,
    differences: Sequence[Difference] | None,
    description: dict[str, Any],
    dataset: DatasetMetadata | None,
) -> str:
    """The text of the card of a ported network.

    Args:
      name: name of the network's directory.
      ported: the network.
      differences: what the comparison with PyTorch measured; None if it was not made.
      description: fields of `port.json`.
      dataset: categories of a segmenter; None for a backbone.
    """
    origin = (
        f"The weights of `{description['network']}`, in the names of {description['naming']}, come"
        f" from the file `{description['source']}` with SHA-256 `{description['sha256']}`."
        f" {ported.summary()}\n\n"
    )
    if differences is None:
        origin += "They were not compared with PyTorch."
    else:
        origin += f"Compared with PyTorch on one random image:\n\n```\n{report(differences)}\n```"
    config = ported.network.config
    if config is None or dataset is None:
        fields = {"library_name": LIBRARY, "tags": [LIBRARY, "jax", ported.network.name]}
        use = f'A backbone: set `config.model.init_from = "{name}"` to start a training from it.'
        return compose(name, fields, ["## Use", use, "## Origin", origin])
    model = Model(config, ported.module, ported.variables, dataset)
    use = f'```python\nimport ranet_jax\n\nmodel = ranet_jax.load("{name}")\n```'
    return write_card(model, Card(name, use=use, origin=origin))
