#!/usr/bin/env bash
# FFmpeg in PyAV 18.1.0: an MP4 file with B-frames and uneven times states an end that is too early.
#
# One would guess that a frame that is written with a time and a duration lies within the duration
# that the file states. With x264's default B-frames, the stated end follows from the last decoding
# time, which belongs to an earlier frame: ten frames a tenth of a second apart and a last one two
# seconds later give a file of 1.1 seconds whose last frame is at 2.9. Players stop at the stated
# end. Without B-frames the end is right; without the flag `frame_duration` the last frame is shown
# for as long as the encoder guesses, not for its own duration.
#
# Fails if the file with B-frames states its true end, or if the file without them does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/measure.py" <<'PYTHON'
import sys
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags

TIMES = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 2900]  # in milliseconds
END = 3.0
noise = np.random.default_rng(0).integers(0, 256, (len(TIMES), 48, 64, 3), dtype=np.uint8)


def stated_end(path, b_frames):
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.flags |= Flags.frame_duration
        if not b_frames:
            stream.codec_context.max_b_frames = 0
        for time, pixels in zip(TIMES, noise, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.duration, frame.time_base = time, 100, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(path) as file:
        stream = file.streams.video[0]
        last = max(float(frame.pts * frame.time_base) for frame in file.decode(stream))
        return float(stream.duration * stream.time_base), last


print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}")
for b_frames in (True, False):
    end, last = stated_end(f"{sys.argv[1]}/{b_frames}.mp4", b_frames)
    print(f"B-frames {b_frames}: the last frame is at {last} s, the file ends at {end} s")
    if b_frames:
        assert end < last, "with B-frames the end is stated"
    else:
        assert end == END, "without B-frames the end is another"
PYTHON
"$folder/venv/bin/python" "$folder/measure.py" "$folder"
