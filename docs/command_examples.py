"""Run an example of each command and write its output, which the page of the command shows.

    python docs/command_examples.py DIRECTORY

works in DIRECTORY, which must be new, and leaves `prepare.txt`, `train.txt` and so on there.
`make docs` runs this script before the pages are built. The script ends if a command fails.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from ranet_data.shapes import scenes

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "shapes.py"
# Commands that use a run come after the training. After so few steps, its figures mean nothing.
EXAMPLES = {
    "prepare": "ranet prepare shapes",
    "train": (
        "ranet train --config configs/shapes.py --workdir runs/shapes"
        " --config.train.steps=40 --config.train.eval_every=40 --config.optimizer.warmup_steps=5"
    ),
    "evaluate": "ranet evaluate runs/shapes --pictures 2",
    "predict": "ranet predict runs/shapes scene.png --output predictions",
    "export": (
        "ranet export runs/shapes --format stablehlo --size 64 64 --output shapes.stablehlo"
    ),
    "port": "ranet port runs/shapes --reverse --format safetensors --output shapes.safetensors",
    "publish": "ranet publish runs/shapes --output published --license apache-2.0",
    "pack": "ranet pack shapes --output shapes.npz",
    "reproduce": (
        "ranet reproduce table4 --data shapes --output tables --steps 2"
        " --config.optimizer.warmup_steps=0 --quiet"
    ),
    "inspect": "ranet inspect --config configs/shapes.py --num-classes 8",
    "bench": "ranet bench regions --size 12 12 --num-classes 4 --repeats 1",
    "ranet": "ranet",
}
EXPLORE = "ranet explore runs/shapes --port 0"


def run(command: str, environment: dict[str, str]) -> str:
    """Return what a command prints; if the command fails, end this program."""
    done = subprocess.run(
        command,
        shell=True,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        sys.exit(f"`{command}` ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout.replace(f"{pathlib.Path.cwd()}/", "")


def explore(environment: dict[str, str]) -> str:
    """Return what `ranet explore` prints until its page can be opened."""
    explorer = subprocess.Popen(
        EXPLORE.split(),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert explorer.stdout is not None
    told = explorer.stdout.readline()
    explorer.send_signal(signal.SIGINT)
    if explorer.wait(60) != 128 + signal.SIGINT or not told:
        sys.exit(f"`{EXPLORE}` ended with status {explorer.returncode} and told {told!r}.")
    return told


def main(directory: pathlib.Path) -> None:
    """Run all examples in a new directory and write their output there."""
    directory.mkdir(parents=True)
    (directory / "configs").symlink_to(CONFIG.parent)
    os.chdir(directory)
    image = scenes.draw_scene(np.random.default_rng(0)).image
    Image.fromarray(image).save("scene.png")
    environment = os.environ | {"TFDS_DATA_DIR": "tensorflow_datasets"}
    for name, command in EXAMPLES.items():
        started = time.monotonic()
        pathlib.Path(f"{name}.txt").write_text(f"$ {command}\n{run(command, environment)}")
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    pathlib.Path("explore.txt").write_text(f"$ {EXPLORE}\n{explore(environment)}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
