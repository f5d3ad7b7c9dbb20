"""Small videos, written and read with PyAV alone."""

import contextlib
import signal
import wave
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags
from PIL import Image

MILLISECOND = Fraction(1, 1000)


def moving_blocks(count, size=(48, 64)):
    """Frames of blocks of pure red, green and blue that move to the right."""
    rows, columns = np.indices(size)
    shades = (255 * np.eye(3)).astype(np.uint8)
    return [shades[(rows // 16 + (columns - 4 * n) // 16) % 3] for n in range(count)]


def write_clip(path, frames, times=None, codec="libx264", rotation=0, aspect=None, **container):
    """Write frames that are shown from `times` on, in milliseconds; by default, ten a second."""
    times = range(0, 100 * len(frames), 100) if times is None else times
    with av.open(str(path), "w", **container) as file:
        stream = file.add_stream(codec, rate=10, options={"crf": "5"} if "x264" in codec else {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        stream.codec_context.max_b_frames = 0
        stream.codec_context.flags |= Flags.frame_duration
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        ends = [*times[1:], times[-1] + 100]
        for pixels, start, end in zip(frames, times, ends, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts, frame.duration, frame.time_base = start, end - start, MILLISECOND
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def read_clip(path):
    """Pixels of all frames, their times in seconds, and the file's metadata."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = list(file.decode(stream))
        facts = {
            "rate": stream.average_rate,
            "seconds": float(stream.duration * stream.time_base) if stream.duration else None,
            "rotation": frames[0].rotation,
            "aspect": stream.sample_aspect_ratio,
            "kinds": [each.type for each in file.streams],
        }
        times = [float(frame.pts * frame.time_base) for frame in frames]
        return [frame.to_ndarray(format="rgb24") for frame in frames], times, facts


def write_sound(path):
    """Write a second of silence, a sound file that FFmpeg reads."""
    with contextlib.closing(wave.open(str(path), "wb")) as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))


def labels_of(directory):
    found = []
    for path in sorted(directory.iterdir()):
        with Image.open(path) as labels:
            assert labels.mode == "P"
            found.append(np.asarray(labels))
    return found


def interrupting(model, monkeypatch, after):
    """Send Ctrl-C while the caller waits for the frame that follows the first `after` ones."""
    predict = model.predict

    def interrupted(frames, with_regions):
        for count, prediction in enumerate(predict(frames, with_regions)):
            if count == after:
                signal.raise_signal(signal.SIGINT)
            yield prediction

    monkeypatch.setattr(model, "predict", interrupted)
