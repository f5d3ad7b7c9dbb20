"""Train the rows of a table, once for each seed, and write the table of the results."""

import os
import pathlib
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from ranet_jax.bench import heads
from ranet_jax.config import (
    changed_fields,
    check_config,
    config_from_json,
    config_to_json,
    set_field,
)
from ranet_jax.config_files import packaged_config
from ranet_jax.display.output import tell
from ranet_jax.display.tables import table
from ranet_jax.errors import UserError, check_counts
from ranet_jax.files import make_directory, read_json, write_json, write_text
from ranet_jax.files.paths import Path, as_path, is_file
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import build_model
from ranet_jax.pipeline.training_data import open_training_data
from ranet_jax.reproduce.oracle import build_oracle, with_truth
from ranet_jax.reproduce.tables import RANET, TABLES, WHOLE, Row
from ranet_jax.training.loop import train

# Experiments to start from, by data set: files in configs/.
BASES = {
    "cityscapes": "ranet_resnet101_cityscapes_769_40k.py",
    "pascal_context": "ranet_resnet101_pascal_520_60k.py",
    "coco_stuff": "ranet_resnet101_coco_stuff_520_60k.py",
    "camvid": "ranet_resnet18_camvid_200.py",
    "shapes": "shapes.py",
}


def base_config(dataset: str) -> pathlib.Path:
    """File of the experiment that a data set's tables start from.

    Raises:
      UserError: there is no such experiment.
    """
    if dataset not in BASES:
        raise UserError(
            f"There is no experiment on data set {dataset!r} to start from; name a config."
        )
    return packaged_config(BASES[dataset])


def reproduce(
    name: str,
    config: ConfigDict,
    output: str | os.PathLike[str],
    seeds: int = 1,
    rows: Sequence[str] | None = None,
) -> str:
    """Train the rows of a table and write `NAME.md` and `NAME.json`.

    Runs are in `OUTPUT/runs/RUN/seed_N`; a finished run is not trained again, and an interrupted
    one resumes. Every row is trained once before any row is trained a second time, and the files
    are rewritten after each training.

    Args:
      name: name of the table, a key of `TABLES`.
      config: experiment whose model is RANet; every row changes fields of it.
      output: directory.
      seeds: number of trainings of each row, with seeds 0, 1, ...; 0 for the costs alone.
      rows: names of the runs to train; all runs of the table if not given. The table always has
        every row, with the runs that are finished.

    Returns:
      The table in Markdown.

    Raises:
      UserError: a value of the config is out of range; a run is not in the table, or belongs to
        another config; a row does not describe a network; the data set is not prepared; or
        training fails.
    """
    directory = as_path(output)
    check_config(config)
    chosen = _chosen_rows(name, rows)
    _check_base(name, config)
    _check_protocol(chosen, config)
    if seeds != 0 or name != "table3":
        check_counts({"number of trainings of each row": seeds})
        open_training_data(config)  # before anything is written
    make_directory(directory, "output directory")
    costs = _costs({row.costs for row in TABLES[name].rows if row.costs is not None})
    text = _write(name, config, directory, seeds, costs)
    todo = [(row, s) for s in range(seeds) for row in {row.run: row for row in chosen}.values()]
    todo = [(row, s) for row, s in todo if _result(row, config, directory, s) is None]
    start = time.monotonic()
    for done, (row, seed) in enumerate(todo):
        pace = (time.monotonic() - start) / max(done, 1) / 60
        left = f", {pace * (len(todo) - done):.0f} minutes left" if done else ""
        tell(f"{name}: {row.run}, seed {seed}, run {done + 1} of {len(todo)}{left}")
        _run(row, config, directory, seed)
        text = _write(name, config, directory, seeds, costs)
    return text


def _costs(names: set[str]) -> dict[str, dict[str, float]]:
    """Costs of heads at the size of the paper's Table 3, by their names in `ranet bench heads`."""
    measured = [heads.measure_head(h) for h in heads.table3_heads((97, 97), 19) if h.name in names]
    return {
        cost.name: {
            "gmacs": cost.counts.macs / 1e9,
            "parameters": cost.counts.parameters / 1e6,
            "memory": cost.backward.temp_bytes / 1e6,
        }
        for cost in measured
    }


def _chosen_rows(name: str, rows: Sequence[str] | None) -> list[Row]:
    known = [row.run for row in TABLES[name].rows]
    for run in rows or ():
        if run not in known:
            raise UserError(f"{name} has no row {run!r}; choose one of {', '.join(known)}.")
    return [row for row in TABLES[name].rows if rows is None or row.run in rows]


def _check_base(name: str, config: ConfigDict) -> None:
    """Raise `UserError` unless the model is a complete RANet that every row can change."""
    model = config.model
    if (model.context, model.variant) != (RANET, "paper"):
        raise UserError(
            f"config.model has context {model.context!r} and variant {model.variant!r}; the rows"
            f" of {name} start from an experiment with {RANET!r} and 'paper'."
        )
    for field, value in WHOLE.items():
        if model[field] != value:
            raise UserError(
                f"config.model.{field} is {model[field]!r}; the rows of {name} start from an"
                f" experiment with {value!r}."
            )
    for row in TABLES[name].rows:
        build_model(_row_config(row, config, 0), 2)


def _check_protocol(rows: Sequence[Row], config: ConfigDict) -> None:
    """Raise `UserError` if label maps would have to be resized along with their images."""
    if any(row.oracle for row in rows) and not InferenceSettings.from_config(config).single_pass:
        raise UserError(
            "Regions of the true labels need whole images at their own scale; set config.eval.mode"
            " to 'whole', config.eval.scales to (1.0,) and config.eval.flip to False."
        )


def _row_config(row: Row, config: ConfigDict, seed: int) -> ConfigDict:
    changed = config_from_json(config_to_json(config))
    if row.fields.get("model.context", RANET) != RANET:
        changed.model.aspp_rates = ()  # those of RANet's visual features
    for field, value in {**row.fields, "seed": seed}.items():
        set_field(changed, field, value)
    return changed


def _workdir(directory: Path, row: Row, seed: int) -> Path:
    return directory / "runs" / row.run / f"seed_{seed}"


def _run(row: Row, config: ConfigDict, directory: Path, seed: int) -> None:
    """Train a row with a seed, and write its scores beside it."""
    workdir = _workdir(directory, row, seed)
    changed = _row_config(row, config, seed)
    data = open_training_data(changed)
    prepare, build = (with_truth, build_oracle) if row.oracle else (iter, build_model)
    result = train(
        changed,
        workdir,
        data.dataset,
        lambda step: prepare(data.train_batches(step)),
        lambda: prepare(data.eval_batches()),
        build,
    )
    write_json(
        workdir / "result.json", {"config": config_to_json(changed), "result": result.to_json()}
    )


def _result(row: Row, config: ConfigDict, directory: Path, seed: int) -> dict[str, Any] | None:
    """The scores of a finished run; None if it is not finished.

    Raises:
      UserError: the run was trained with another config or by another version.
    """
    workdir = _workdir(directory, row, seed)
    if not is_file(workdir / "result.json"):
        return None
    fields = read_json(workdir / "result.json")
    wanted = _row_config(row, config, seed)
    try:  # fields added since then had their default
        trained = config_from_json(fields["config"])
    except UserError as error:
        raise UserError(f"{workdir} was trained by another version: {error}") from error
    names = changed_fields(trained, wanted, "weights", "training", "scores")
    if names:
        raise UserError(
            f"{workdir} was trained with another config ({', '.join(names)} differ); choose another"
            " directory or the config it was trained with."
        )
    return fields["result"]


def _write(
    name: str,
    config: ConfigDict,
    directory: Path,
    seeds: int,
    costs: dict[str, dict[str, float]],
) -> str:
    """Write the results of the finished runs, and return their table in Markdown."""
    rows = TABLES[name].rows
    found = [_scores(row, config, directory, seeds) for row in rows]
    results = {
        "table": name,
        "title": TABLES[name].title,
        "dataset": config.data.name,
        "split": config.data.eval_split,
        "hardware": hardware(),
        "config": config_to_json(config),
        "rows": [
            {
                "method": row.method,
                "run": row.run,
                "output": row.output,
                "fields": dict(row.fields),
                "paper": dict(row.paper),
                "costs": costs.get(row.costs or ""),
                **scores,
            }
            for row, scores in zip(rows, found, strict=True)
        ],
    }
    text = _markdown(results)
    try:
        write_json(directory / f"{name}.json", results)
        write_text(directory / f"{name}.md", text + "\n")
    except OSError as error:
        raise UserError(
            f"{directory}/{name}.md and .json cannot be written ({error.strerror}); make room or"
            " choose another directory."
        ) from error
    return text


def _scores(row: Row, config: ConfigDict, directory: Path, seeds: int) -> dict[str, Any]:
    """Mean IoU in percent of each finished seed, their mean and sample standard deviation."""
    mious = {}
    for seed in range(seeds):
        result = _result(row, config, directory, seed)
        miou = (result or {}).get(row.output, {}).get("miou")
        if miou is not None:
            mious[str(seed)] = 100 * miou
    values = list(mious.values())
    return {
        "miou_by_seed": mious,
        "miou": statistics.mean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
    }


def _markdown(results: dict[str, Any]) -> str:
    """The table with the paper's figures beside ours, and what they were measured on."""
    config = results["config"]
    dataset, train_fields = results["dataset"], config["train"]
    in_paper = any(row["paper"] for row in results["rows"])
    paper_on = dataset if dataset in results["rows"][0]["paper"] else "cityscapes"
    header = ["method", *([f"paper, {paper_on} val"] if in_paper else [])]
    header += [f"here, {dataset} {results['split']}", "seeds"]
    published = heads.PUBLISHED if results["table"] == "table3" else {}
    if published:
        header += ["GMACs, paper", "here", "parameters (M), paper", "here"]
        header += ["memory (MB), paper", "here"]
    lines = []
    for row in results["rows"]:
        cells = [row["method"]]
        if in_paper:
            cells.append(_number(row["paper"].get(paper_on), 1))
        cells += [_spread(row), str(len(row["miou_by_seed"]))]
        if published:
            measured = [row["costs"][q] for q in ("gmacs", "parameters", "memory")]
            for pair in zip(published[row["method"]], measured, strict=True):
                cells += [_number(number, 0) for number in pair]
        lines.append(cells)
    height, width = config["data"]["crop_size"]
    notes = [
        "",
        "Costs are what a head adds on features of 97 x 97 x 512; `ranet bench heads` says how they"
        " are counted.",
    ]
    return "\n".join(
        [
            f"# {results['title']}" + (f" ({results['table']} of the paper)" if in_paper else ""),
            "",
            table(header, lines),
            "",
            f"Mean IoU in percent, here the mean over the seeds and their standard deviation, after"
            f" {train_fields['steps']} steps of {train_fields['batch_size']} crops of"
            f" {height} x {width} with {config['model']['backbone']} at output stride"
            f" {config['model']['output_stride']}, on {results['hardware']}; evaluated on"
            f" {_protocol(config['eval'])}.",
            *(notes if published else []),
        ]
    )


def _protocol(section: dict[str, Any]) -> str:
    """What an evaluation sees of each image, in words."""
    seen = "whole images" if section["mode"] == "whole" else "sliding windows"
    scales = ", ".join(map(str, section["scales"]))
    flips = " and their mirror images" if section["flip"] else ""
    return f"{seen} at scale {scales}{flips}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _spread(row: dict[str, Any]) -> str:
    spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2f}"
    return _number(row["miou"]) + spread


def hardware() -> str:
    """Devices that JAX computes on."""
    devices = jax.devices()
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        return f"{os.cpu_count()} CPU cores ({platform.machine()})"
    return f"{len(devices)} x {kind}"
