"""The model card: `README.md` with a block of metadata in YAML that the hub reads."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import yaml

from ranet_jax.display.tables import table
from ranet_jax.errors import UserError
from ranet_jax.evaluation.result import percent
from ranet_jax.files.paths import as_path
from ranet_jax.hub.scores import MEASURES, Score, describe_settings
from ranet_jax.inference.model import Model
from ranet_jax.models import find_block
from ranet_jax.porting.published import LIBRARY

TASK = "image-segmentation"
# The hub's names for the measures.
METRICS = dict(zip(MEASURES, ("mean_iou", "accuracy", "mean_accuracy"), strict=True))
TITLES = dict(zip(MEASURES, ("mean IoU", "pixel accuracy", "mean accuracy"), strict=True))


@dataclasses.dataclass(frozen=True)
class Card:
    """The parts of a model card that the model itself does not provide.

    Attributes:
      name: the argument for `from_pretrained`, the hub's `owner/name` or a directory.
      scores: scores of evaluations of the model.
      license: the hub's identifier of the license of the weights, such as "apache-2.0".
      picture: name of a picture file beside the card.
      use: text of the section on use; if empty, it shows how to call `from_pretrained`.
      origin: text of the section on the origin of the weights; if empty, the section is left out.
      sizes: which sizes of images the model takes, in words.

    Raises:
      UserError: the license is not an identifier.
    """

    name: str
    scores: tuple[Score, ...] = ()
    license: str | None = None
    picture: str | None = None
    use: str = ""
    origin: str = ""
    sizes: str = "any size"

    def __post_init__(self) -> None:
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.license):
            raise UserError(
                f"The license {self.license!r} is not an identifier of the hub; choose one such as"
                " apache-2.0, mit, cc-by-4.0 or other."
            )

    @property
    def title(self) -> str:
        """The name without its owner."""
        return self.name.rpartition("/")[2]


def write_card(model: Model, card: Card) -> str:
    """The text of a model's `README.md`."""
    sections = [_introduction(model)]
    if card.picture is not None:
        sections.append(f"![Predictions of {card.title}]({card.picture})")
    sections += ["## Use", card.use or _use(card), "## Input", _input(model, card)]
    sections += ["## Classes", _classes(model)]
    if card.origin:
        sections += ["## Origin", card.origin]
    if card.scores:
        sections += ["## Scores", _scores(card.scores)]
    if model.step is not None:
        sections += ["## Training", _training(model)]
    return compose(card.title, _metadata(model, card), sections)


def compose(title: str, fields: dict[str, Any], sections: Sequence[str]) -> str:
    """The text of a card: a block of metadata in YAML, a title and sections."""
    metadata = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return f"---\n{metadata}---\n\n" + "\n\n".join([f"# {title}", *sections]) + "\n"


def _metadata(model: Model, card: Card) -> dict[str, Any]:
    fields: dict[str, Any] = {"library_name": LIBRARY, "pipeline_tag": TASK}
    if card.license is not None:
        fields["license"] = card.license
    network = (model.config.model.context, model.config.model.backbone)
    tags = [LIBRARY, "jax", "semantic-segmentation", *(name for name in network if name != "none")]
    fields |= {"tags": tags, "datasets": [model.dataset.name]}
    if card.scores:
        found = {measure for score in card.scores for _, measure in score.values}
        fields["metrics"] = [METRICS[measure] for measure in MEASURES if measure in found]
        results = [_result(score) for score in card.scores]
        fields["model-index"] = [{"name": card.title, "results": results}]
    return fields


def _result(score: Score) -> dict[str, Any]:
    metrics = [
        {
            "type": METRICS[measure],
            "value": value,
            "name": f"{_heading(output, measure)}, images seen {score.seen}",
        }
        for (output, measure), value in score.values.items()
    ]
    return {
        "task": {"type": TASK, "name": "semantic segmentation"},
        "dataset": {"type": score.dataset, "name": score.dataset, "split": score.split},
        "metrics": metrics,
    }


def _heading(output: str, measure: str) -> str:
    return TITLES[measure] if output == "fine" else f"{output} {TITLES[measure]}"


def _introduction(model: Model) -> str:
    section = model.config.model
    context = "no context block"
    if section.context != "none":
        variant = find_block(section).variant
        context = f"the context block `{section.context}`" + (f" ({variant})" if variant else "")
    count = sum(np.size(array) for array in jax.tree.leaves(model.variables["params"]))
    return (
        f"A network for semantic segmentation: backbone `{section.backbone}`, {context}, output"
        f" stride {section.output_stride}, {count:,} parameters. It distinguishes"
        f" the {model.dataset.num_classes} classes of the data set `{model.dataset.name}`."
    )


def _use(card: Card) -> str:
    return (
        "With the package `ranet_jax` and its extra `hub` installed:\n\n"
        "```python\n"
        "import ranet_jax\n"
        "from ranet_jax.pipeline.images import read_image\n\n"
        f'model = ranet_jax.from_pretrained("{card.name}")\n'
        'labels = model.predict(read_image("photo.jpg")).labels  # uint8 [H, W]\n'
        "```"
    )


def _input(model: Model, card: Card) -> str:
    normalization = model.normalization
    mean, std = (
        ", ".join(f"{value:g}" for value in values)
        for values in (normalization.mean, normalization.std)
    )
    order = {"rgb": "red, green, blue", "bgr": "blue, green, red"}[normalization.channel_order]
    return (
        f"Images are RGB in bytes, uint8 [H, W, 3], of {card.sizes}. The model subtracts the mean"
        f" ({mean}) of red, green and blue and divides by their standard deviation ({std}); the"
        f" network sees the channels in the order {order}. It sees an image"
        f" {describe_settings(model.settings)}."
    )


def _classes(model: Model) -> str:
    names = ", ".join(f"{n} {_plain(name)}" for n, name in enumerate(model.dataset.class_names))
    return f"By label: {names}. Pixels of label {model.dataset.ignore_label} were ignored."


def _scores(scores: tuple[Score, ...]) -> str:
    """Tables in percent: one row per evaluation, then one row per class if those are recorded."""
    columns = list(dict.fromkeys(key for score in scores for key in score.values))
    rows = [
        [
            _place(score),
            _plain(score.seen),
            "-" if score.num_images is None else f"{score.num_images:,}",
            *(percent(score.values.get(key, np.nan)) for key in columns),
        ]
        for score in scores
    ]
    header = ["split", "images seen", "images", *(_heading(*key) for key in columns)]
    parts = ["In percent:", table(header, rows)]
    detailed = [score for score in scores if score.class_iou]
    if detailed:
        names = list(dict.fromkeys(name for score in detailed for name in score.class_iou))
        ious = [
            [_plain(name), *(percent(score.class_iou.get(name, np.nan)) for score in detailed)]
            for name in names
        ]
        parts.append(table(["IoU", *map(_place, detailed)], ious))
    return "\n\n".join(parts)


def _place(score: Score) -> str:
    return _plain(f"{score.dataset} {score.split}")


def _training(model: Model) -> str:
    config = model.config
    start = config.model.init_from
    facts = {
        "step": f"{model.step:,} of {config.train.steps:,}",
        "batch": f"{config.train.batch_size:,}",
        "crop": " x ".join(map(str, config.data.crop_size)),
        "seed": str(config.seed),
        "learning rate": f"{config.optimizer.learning_rate:g}",
        "initial weights": "random" if start is None else _plain(as_path(start).name),
        "data": _plain(f"{config.data.name} {config.data.train_split}"),
    }
    return table(["setting", "value"], [list(fact) for fact in facts.items()])


def _plain(text: str) -> str:
    """Text from users on one line, with the characters escaped that mean something in Markdown."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(text.split()))
