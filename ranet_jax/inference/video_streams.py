"""Videos and cameras as frames, and frames as a video, with FFmpeg through PyAV."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ranet_jax.errors import UserError

# FFmpeg's format for cameras and its name for the camera with a number, by `sys.platform`.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
# The most seconds that a camera or a stream may be silent.
SILENT_SECONDS = 10.0
# A file was cut off if its frames end more than this many seconds before the end that it states.
MISSING_SECONDS = 0.5
ENCODER = "libx264"
# On x264's scale: hardly distinguishable from the original.
CONSTANT_RATE_FACTOR = 18
# FFmpeg's numbers for the colours of BT.709 and their limited range, which players expect.
BT709, LIMITED = 1, 1


@dataclass(frozen=True)
class Frame:
    """An upright frame that is shown from `time` on for `duration`, both in the video's `unit`."""

    pixels: UInt8[np.ndarray, "H W 3"]
    time: int
    duration: int


class Video:
    """The frames of a video or camera, upright, all of one size, at increasing times from 0 on.

    Attributes:
      name: the name by which the user knows it.
      size: height and width as stored, before the video is turned upright.
      pixel_aspect: width of an upright pixel over its height, if known; set by the first frame.
      unit: unit of times, in seconds.
      rate: frames per second, if all are shown equally long.
      length: number of frames according to the file; None if the file does not say.
      fault: why frames are missing, once all are read; None if none are.
    """

    def __init__(self, container: Any, name: str):
        if not container.streams.video:
            raise UserError(f"{name} holds no video; leave it out.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise UserError(f"{name} has a codec that this FFmpeg lacks; convert it to H.264.")
        self.name = name
        self.size = (stream.codec_context.height, stream.codec_context.width)
        self.pixel_aspect: Fraction | None = None
        self.unit: Fraction = stream.time_base
        self.rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
        self.fault: str | None = None
        self._seconds = _stated_seconds(stream)
        expected = round(self._seconds * (stream.average_rate or 0))
        self.length: int | None = stream.frames or expected or None
        self._container, self._stream = container, stream

    def __iter__(self) -> Iterator[Frame]:
        usual = max(1, round(1 / (self.rate * self.unit)))
        width = height = quarters = start = 0
        last: Frame | None = None
        for frame in self._decoded():
            if last is None:
                width, height = frame.width, frame.height
                quarters, start = round(frame.rotation / 90), frame.pts or 0
                aspect = self._stream.sample_aspect_ratio or None
                self.pixel_aspect = 1 / aspect if aspect and quarters % 2 else aspect
            due = 0 if last is None else last.time + last.duration
            at = due if frame.pts is None else frame.pts - start
            rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
            last = Frame(
                pixels=np.rot90(rgb, quarters),
                time=at if last is None else max(at, last.time + 1),
                duration=frame.duration or usual,
            )
            yield last
        read = 0 if last is None else (last.time + last.duration) * self.unit
        if self.fault is None and read < self._seconds - MISSING_SECONDS:
            self.fault = f"{float(read):.1f} of {self._seconds:.1f} seconds are there"

    def _decoded(self) -> Iterator[Any]:
        """The frames that can be decoded; the error of the first damaged packet is noted."""
        from av.error import BlockingIOError, FFmpegError

        packets = self._container.demux(self._stream)
        while True:
            try:
                frames = next(packets).decode()
            except StopIteration:
                return
            except BlockingIOError:  # a camera has no frame yet
                time.sleep(0.002)
                packets = self._container.demux(self._stream)
            except FFmpegError as error:
                self.fault = self.fault or str(error.strerror)
            else:
                yield from frames


def _stated_seconds(stream: Any) -> float:
    """How long a file says that its video is; 0 if it does not say."""
    if stream.frames and stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska and WebM.
    written = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    if written is None:
        return 0.0
    hours, minutes, seconds = map(float, written.groups())
    return 3600 * hours + 60 * minutes + seconds


@contextlib.contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[Video]:
    """Open a video file.

    Raises:
      UserError: the file cannot be read, is not a video or has a codec that is missing.
    """
    remedy = "name another, or convert it to MP4"
    with _opened(os.fspath(path), f"{path} cannot be read as a video", remedy) as container:
        yield Video(container, str(path))


@contextlib.contextmanager
def open_camera(camera: str) -> Iterator[Video]:
    """Open a camera by its number ("camera:0") or device, or a stream by its address.

    Raises:
      UserError: the camera cannot be opened, gives no video or has a codec that is missing.
    """
    form, place = None, camera
    number = camera.removeprefix("camera:")
    if number != camera:
        if not number.isdecimal() or sys.platform not in CAMERAS:
            raise UserError(
                f"{camera} is not a camera here; name camera:0 (on Linux and macOS), a device such"
                " as /dev/video0, or the address of a stream."
            )
        form, pattern = CAMERAS[sys.platform]
        place = pattern.format(number)
    elif "://" not in camera:
        form, _ = CAMERAS["linux"]
    remedy = "check that it exists and that nothing else uses it, or name another"
    settings = {"format": form, "timeout": SILENT_SECONDS}
    with _opened(place, f"{camera} cannot be opened", remedy, **settings) as container:
        yield Video(container, camera)


def camera_name(camera: str) -> str:
    """The beginning of the names of files for a camera or stream."""
    return "stream" if "://" in camera else re.sub(r"\W", "", camera.removeprefix("/dev/"))


@contextlib.contextmanager
def _opened(place: str, what: str, remedy: str, **settings: Any) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"{what} without the package av; install it with `pip install 'ranet_jax[video]'`."
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(place, **settings))
        except (av.error.FFmpegError, ValueError) as error:  # ValueError: an unknown format
            why = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{what} ({why}); {remedy}.") from error
        yield container


class VideoFile:
    """An H.264 video in an MP4 file, with the times of another video and without sound.

    H.264 in its most common form has even sides: if a side of a picture is odd, its last row or
    column is repeated.
    """

    def __init__(self, path: str | os.PathLike[str], video: Video):
        import av

        self._container = av.open(os.fspath(path), "w", format="mp4")
        self._video = video
        self._stream: Any = None

    def add(self, picture: UInt8[np.ndarray, "H W 3"], frame: Frame) -> None:
        """Write a picture that is shown at the time of a frame.

        Raises:
          UserError: there is no encoder.
          OSError: the file cannot be written.
        """
        import av

        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._new_stream(picture.shape[:2])
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        image = image.reformat(format="yuv420p", dst_colorspace="ITU709")
        image.pts, image.duration, image.time_base = frame.time, frame.duration, self._video.unit
        self._container.mux(self._stream.encode(image))

    def _new_stream(self, shape: tuple[int, int]) -> Any:
        from av.codec.codec import UnknownCodecError
        from av.codec.context import Flags

        options = {"crf": str(CONSTANT_RATE_FACTOR)}
        try:
            stream: Any = self._container.add_stream(ENCODER, self._video.rate, options=options)
        except UnknownCodecError as error:
            raise UserError(
                "The FFmpeg of the package av has no encoder for H.264; install the package with"
                " `pip install 'ranet_jax[video]'`."
            ) from error
        stream.height, stream.width = shape
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._video.unit
        context.flags |= Flags.frame_duration
        context.max_b_frames = 0  # with B-frames, MP4 puts the end of uneven times too early
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        if self._video.pixel_aspect is not None:
            context.sample_aspect_ratio = self._video.pixel_aspect
        return stream

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *exception: object) -> None:
        """Finish the file so that it can be played; raise OSError if it cannot be written."""
        with self._container:
            if self._stream is not None:
                self._container.mux(self._stream.encode())
