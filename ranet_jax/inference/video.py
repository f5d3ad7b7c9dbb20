"""Prediction of videos and cameras: an overlay as a video and, if asked for, label maps."""

import contextlib
import itertools
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ranet_jax.display.output import note
from ranet_jax.display.progress import track
from ranet_jax.errors import Interrupted, UserError
from ranet_jax.files import new_directory, replacing
from ranet_jax.files.paths import Path
from ranet_jax.inference.label_png import save_label_png
from ranet_jax.inference.model import Model
from ranet_jax.inference.pictures import OVERLAY_ALPHA, overlay
from ranet_jax.inference.video_streams import Frame, Video, VideoFile

# Suffixes of files that count as videos.
EXTENSIONS = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".ogv", ".ts", ".webm", ".wmv"),
    )
)


def is_video(path: Path) -> bool:
    """Whether a file's name is that of a video."""
    return path.suffix.lower() in EXTENSIONS


def video_targets(directory: Path, stem: str, labels: bool) -> dict[str, Path]:
    """Where the overlay of a video is written and, if asked for, its label maps."""
    targets = {"overlay": directory / f"{stem}_overlay.mp4"}
    return targets | {"labels": directory / f"{stem}_labels"} if labels else targets


def predict_video(
    model: Model,
    video: Video,
    targets: dict[str, Path],
    alpha: float = OVERLAY_ALPHA,
    max_frames: int | None = None,
    endless: bool = False,
) -> int:
    """Segment the frames of a video, and write them under their labels as a video.

    Every frame is shown as long as in the original video. If the targets have "labels", that
    directory gets an indexed PNG of each frame, 000000.png and so on. Files appear under their
    names once they are complete; if Ctrl-C or SIGTERM ends the work, they hold what was done.

    Args:
      model: the model that segments the frames.
      video: source of the frames; afterwards its `fault` says why some are missing, if any are.
      targets: files of `video_targets`.
      alpha: opacity of the labels over the frames.
      max_frames: end after this many frames; None for all.
      endless: whether the work normally ends by Ctrl-C or SIGTERM, as for a camera; these are then
        not passed on.

    Returns:
      The number of frames.

    Raises:
      UserError: no frame can be read, memory is too small, or the directory exists already.
      OSError: a file cannot be written.
    """
    stopped: BaseException | None = None
    count = 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(
            VideoFile(stack.enter_context(replacing(targets["overlay"])), video)
        )
        folder = None
        if "labels" in targets:
            folder = stack.enter_context(new_directory(targets["labels"]))
        total = min(filter(None, (video.length, max_frames)), default=None)
        bar = stack.enter_context(
            track(total=total, unit="frame", desc="predict", leave=None, pace=True)
        )
        begin = time.monotonic()
        try:
            for frame, labels in _segmented(model, video, max_frames):
                picture = overlay(frame.pixels, labels, model.dataset.palette, alpha)
                with _undisturbed():
                    if folder is not None:
                        save_label_png(folder / f"{count:06}.png", labels, model.dataset.palette)
                    file.add(picture, frame)
                    count += 1
                bar.update(1)
                if count == 1:  # until then the network was compiled
                    bar.leave_out(time.monotonic() - begin)
        except (KeyboardInterrupt, Interrupted) as stop:
            if count == 0:
                raise
            stopped = stop
        if count == 0:
            why = "" if video.fault is None else f" ({video.fault})"
            raise UserError(f"{video.name} holds no frame that can be read{why}; leave it out.")
        with _undisturbed():
            stack.close()
    if stopped is not None and not endless:
        note(f"{targets['overlay']} holds the first {count} frames.")
        raise stopped
    return count


def _segmented(
    model: Model, video: Video, max_frames: int | None
) -> Iterator[tuple[Frame, UInt8[np.ndarray, "H W"]]]:
    """Frames with their labels, in order; several may be read before the first is returned."""
    waiting: deque[Frame] = deque()

    def pixels() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        for frame in itertools.islice(video, max_frames):
            waiting.append(frame)
            yield frame.pixels

    try:
        for prediction in model.predict(pixels(), with_regions=False):
            yield waiting.popleft(), prediction.labels
    except UserError as error:
        raise UserError(f"{video.name} cannot be predicted. {error}") from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block is done, in the thread that receives them."""
    held: list[int] = []
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for caught in (signal.SIGINT, signal.SIGTERM):
            previous[caught] = signal.signal(caught, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for number in held:
        signal.raise_signal(number)
