"""Cameras and streams: what is written from them, and how they end."""

import functools
import http.server
import re
import sys
import threading

import av
import pytest

from helpers.clips import interrupting, labels_of, read_clip
from helpers.fakes import brightest_channel_model
from ranet_jax.errors import UserError
from ranet_jax.inference import video_streams
from ranet_jax.inference.files import predict_camera

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return brightest_channel_model()


@pytest.fixture
def camera(monkeypatch):
    """FFmpeg's test picture in place of cameras: camera number N lasts N seconds."""
    pattern = "testsrc=size=64x48:rate=10:duration={}"
    monkeypatch.setitem(video_streams.CAMERAS, sys.platform, ("lavfi", pattern))


def test_a_camera_is_segmented_until_it_ends(model, camera, tmp_path):
    result = predict_camera(model, "camera:1", tmp_path, frame_labels=True)
    assert (result.input, result.error, result.frames) == ("camera:1", None, 10)
    assert re.fullmatch(r"camera1_\d{8}_\d{6}_overlay\.mp4", result.files["overlay"].name)
    shown, times, _ = read_clip(result.files["overlay"])
    assert shown[0].shape == (48, 64, 3)
    assert times == pytest.approx([n / 10 for n in range(10)])
    assert len(labels_of(result.files["labels"])) == 10


def test_ctrl_c_is_the_end_of_a_camera(model, camera, tmp_path, monkeypatch):
    interrupting(model, monkeypatch, 4)
    result = predict_camera(model, "camera:1000", tmp_path)
    assert (result.error, result.frames) == (None, 4)
    assert len(read_clip(result.files["overlay"])[0]) == 4


def test_a_camera_that_keeps_one_waiting(model, camera, tmp_path, monkeypatch):
    """A camera without a new frame says so, and is asked again."""
    opened = av.open

    class Hesitant:
        def __init__(self, container):
            self._container, self.streams, self._asked = container, container.streams, 0

        def demux(self, stream):
            self._asked += 1
            if self._asked % 2:
                raise av.error.BlockingIOError(11, "Resource temporarily unavailable")
            yield next(self._container.demux(stream))

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self._container.close()

    def hesitant(place, *arguments, format=None, **settings):
        container = opened(place, *arguments, format=format, **settings)
        return Hesitant(container) if format == "lavfi" else container

    monkeypatch.setattr(av, "open", hesitant)
    assert predict_camera(model, "camera:9", tmp_path, max_frames=1).frames == 1


def test_a_stream_is_read_from_its_address(model, clip, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        result = predict_camera(model, f"{address}/clip.mp4", tmp_path / "out")
        assert result.frames == 12
        assert result.files["overlay"].name.startswith("stream_")
        with pytest.raises(UserError, match=r"missing\.mp4 cannot be opened \(.*404"):
            predict_camera(model, f"{address}/missing.mp4", tmp_path / "out")
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("camera:77", r"camera:77 cannot be opened \(No such file or directory\); check that it"),
        ("camera:x", "camera:x is not a camera here; name camera:0"),
        ("/dev/null", r"/dev/null cannot be opened \("),
        ("rtsp://127.0.0.1:9/x", r"rtsp://127\.0\.0\.1:9/x cannot be opened \(Connection refused"),
    ],
)
def test_a_camera_that_is_not_there(model, tmp_path, name, sentence):
    with pytest.raises(UserError, match=sentence):
        predict_camera(model, name, tmp_path)
    assert list(tmp_path.iterdir()) == []
