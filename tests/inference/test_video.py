"""Videos and cameras: what is written, compared with frames decoded and drawn one by one."""

import os
import re
import signal
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from helpers.clips import interrupting, labels_of, moving_blocks, read_clip, write_clip, write_sound
from helpers.fakes import brightest_channel_model
from ranet_jax.errors import UserError
from ranet_jax.inference import video, video_streams
from ranet_jax.inference.files import predict_files
from ranet_jax.inference.pictures import overlay

pytestmark = pytest.mark.slow

# ITU-T H.273: with this matrix the brightness is 0.2126 red + 0.7152 green + 0.0722 blue.
BT709 = 1


@pytest.fixture(scope="module")
def model():
    return brightest_channel_model()


def assert_close(pictures, expected):
    """Compare pictures from H.264, which halves the resolution of colours, with the originals."""
    for picture, other in zip(pictures, expected, strict=True):
        assert picture.shape == other.shape
        difference = np.abs(picture.astype(int) - other)
        assert difference.mean() < 8
        assert (difference.max(axis=-1) < 24).mean() > 0.75


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mp4", "libx264"), ("clip.webm", "libvpx-vp9"), ("clip.mkv", "ffv1")]
)
def test_each_frame_is_segmented_and_drawn_as_a_picture_is(model, tmp_path, name, codec):
    write_clip(tmp_path / name, moving_blocks(12), codec=codec)
    (result,) = predict_files(model, [tmp_path / name], tmp_path / "out", frame_labels=True)
    assert (result.error, result.frames) == (None, 12)
    assert result.files["overlay"] == tmp_path / "out" / "clip_overlay.mp4"
    frames, times, _ = read_clip(tmp_path / name)
    expected = [model.predict(frame).labels for frame in frames]
    assert len(set(map(bytes, expected))) > 1
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "clip_labels"), expected)
    shown, shown_times, facts = read_clip(result.files["overlay"])
    palette = model.dataset.palette
    assert_close(shown, [overlay(*pair, palette) for pair in zip(frames, expected, strict=True)])
    assert shown_times == pytest.approx(times)
    assert (facts["rate"], facts["seconds"], facts["kinds"]) == (10, 1.2, ["video"])


def test_colours_and_alpha(model, tmp_path):
    """With alpha 1, labels in flat colours come back unchanged except for rounding."""
    frames = [np.full((32, 48, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255))]
    write_clip(tmp_path / "flat.mp4", frames)
    predict_files(model, [tmp_path / "flat.mp4"], tmp_path / "out", alpha=1.0)
    shown, _, _ = read_clip(tmp_path / "out" / "flat_overlay.mp4")
    for picture, color in zip(shown, ((200, 0, 0), (0, 0, 200)), strict=True):
        assert np.abs(picture.astype(int) - color).max() <= 6
    with av.open(str(tmp_path / "out" / "flat_overlay.mp4")) as file:
        red = next(file.decode(video=0))
    assert red.format.name == "yuv420p"
    assert red.colorspace == BT709
    assert red.to_ndarray()[0, 0] == pytest.approx(16 + 219 * 0.2126 * 200 / 255, abs=1)
    assert not (tmp_path / "out" / "flat_labels").exists()


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_uneven_times_are_kept(model, tmp_path, name):
    times = [0, 40, 55, 300, 301, 900, 1000, 1100, 3000]
    write_clip(tmp_path / name, moving_blocks(9), times)
    predict_files(model, [tmp_path / name], tmp_path / "out")
    _, shown, facts = read_clip(tmp_path / "out" / "uneven_overlay.mp4")
    assert shown == pytest.approx([time / 1000 for time in times])
    assert facts["seconds"] == pytest.approx(3.1)


def test_times_begin_with_zero(model, tmp_path):
    write_clip(tmp_path / "late.ts", moving_blocks(3), [500, 600, 700])
    predict_files(model, [tmp_path / "late.ts"], tmp_path / "out")
    _, times, _ = read_clip(tmp_path / "out" / "late_overlay.mp4")
    assert times == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_a_video_is_turned_upright(model, tmp_path, degrees):
    """A video of a turned camera says by how much players must turn it counterclockwise."""
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:, :, 2], frame[:16, :16] = 255, (255, 0, 0)  # red at the top left, else blue
    write_clip(tmp_path / "turned.mov", [frame] * 2, rotation=degrees, aspect=Fraction(4, 3))
    predict_files(model, [tmp_path / "turned.mov"], tmp_path / "out", frame_labels=True)
    corner = {90: (slice(-16, None), slice(16)), -90: (slice(16), slice(-16, None))}
    corner[180] = (slice(-16, None), slice(-16, None))
    expected = np.full((32, 48) if degrees == 180 else (48, 32), 2)
    expected[corner[degrees]] = 0
    labels = labels_of(tmp_path / "out" / "turned_labels")[0]
    assert (labels == expected).mean() > 0.95
    shown, _, facts = read_clip(tmp_path / "out" / "turned_overlay.mp4")
    assert shown[0].shape[:2] == expected.shape
    assert facts["rotation"] == 0
    assert facts["aspect"] == (Fraction(4, 3) if degrees == 180 else Fraction(3, 4))


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (2, 31)])
def test_odd_sizes_get_their_last_row_and_column_twice(model, tmp_path, size):
    write_clip(tmp_path / "odd.mkv", [np.full((*size, 3), (0, 255, 0), np.uint8)] * 2, codec="ffv1")
    predict_files(model, [tmp_path / "odd.mkv"], tmp_path / "out", frame_labels=True)
    assert labels_of(tmp_path / "out" / "odd_labels")[0].shape == size
    shown, _, _ = read_clip(tmp_path / "out" / "odd_overlay.mp4")
    assert shown[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)


def test_frames_of_one_size_share_what_is_compiled(tmp_path):
    traced = []
    model = brightest_channel_model(traced.append)
    write_clip(tmp_path / "clip.mp4", moving_blocks(20))
    predict_files(model, [tmp_path / "clip.mp4"], tmp_path / "out")
    assert traced == [(8, 48, 64, 3), (4, 48, 64, 3)]


def test_images_and_videos_of_a_directory(model, clip, tmp_path, capsys):
    Image.fromarray(moving_blocks(1)[0]).save(clip.with_name("clip.png"))
    results = predict_files(model, [tmp_path], tmp_path / "out", max_frames=3)
    assert [result.frames for result in results] == [3, None]
    names = {"clip_overlay.mp4", "clip_overlay.png", "clip_labels.png", "clip_regions.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    clip.rename(tmp_path / "clip.mkv")
    write_clip(clip, moving_blocks(1))
    with pytest.raises(UserError, match=r"would both be written to clip_overlay\.mp4"):
        predict_files(model, [tmp_path], tmp_path / "other")
    clip.rename(tmp_path / "clip_overlay.mp4")
    with pytest.raises(UserError, match="would overwrite"):
        predict_files(model, [tmp_path], tmp_path)


def test_speed_is_shown(model, clip, tmp_path, capsys):
    predict_files(model, [clip], tmp_path / "out")
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"predict: 12/12 frames, 00:\d\d elapsed, [\d.]+ frames/s", line)


# ----------------------------------------------------------------------------- what goes wrong


def refused(model, path, tmp_path):
    (result,) = predict_files(model, [path], tmp_path / "out")
    return result


@pytest.mark.parametrize("name", ["cut.mp4", "cut.webm"])
def test_of_a_video_that_was_cut_off_the_beginning_is_segmented(model, tmp_path, name, capsys):
    codec = "libx264" if name == "cut.mp4" else "libvpx-vp9"
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3)).astype(np.uint8)
    options = {"options": {"movflags": "faststart"}} if name == "cut.mp4" else {}
    write_clip(tmp_path / name, list(noise), codec=codec, **options)
    os.truncate(tmp_path / name, os.path.getsize(tmp_path / name) // 2)
    result = refused(model, tmp_path / name, tmp_path)
    assert f"{name} is damaged or was cut off (" in result.error
    assert f"); the {result.frames} frames that can be read are segmented." in result.error
    assert result.error in capsys.readouterr().err
    assert 5 < result.frames < 25
    shown, _, _ = read_clip(result.files["overlay"])
    assert len(shown) == result.frames


def test_damage_in_the_middle_leaves_out_what_it_hit(model, clip, tmp_path):
    with av.open(str(clip)) as file:
        packets = [packet for packet in file.demux() if packet.size]
    with clip.open("r+b") as file:
        file.seek(packets[6].pos)
        file.write(bytes(packets[6].size))
    result = refused(model, clip, tmp_path)
    assert result.frames == 11
    assert "is damaged or was cut off (Invalid data found" in result.error
    assert len(read_clip(result.files["overlay"])[0]) == 11


def test_what_is_no_video_is_told_and_leaves_nothing(model, clip, tmp_path, monkeypatch):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mkv").touch()
    write_sound(tmp_path / "sound.avi")
    os.truncate(clip, 200)
    names = {
        "text.mp4": "cannot be read as a video (Invalid data",
        "empty.mkv": "cannot be read as a video (",
        "missing.mov": "cannot be read as a video (No such file",
        "clip.mp4": "cannot be read as a video (Invalid data",
        "sound.avi": "holds no video; leave it out.",
    }
    for name, sentence in names.items():
        assert sentence in refused(model, tmp_path / name, tmp_path).error
    assert list((tmp_path / "out").iterdir()) == []


def test_a_video_without_frames(model, tmp_path, monkeypatch, clip):
    monkeypatch.setattr(video_streams.Video, "_decoded", lambda self: iter(()))
    assert "holds no frame that can be read" in refused(model, clip, tmp_path).error
    assert list((tmp_path / "out").iterdir()) == []


def test_a_video_of_too_many_pixels(model, clip, tmp_path):
    (result,) = predict_files(model, [clip], tmp_path / "out", max_pixels=48 * 64 - 1)
    assert "has 3,072 pixels, which is more than max_pixels, 3,071" in result.error
    with pytest.raises(UserError, match="max_frames is 0; choose 1 or more"):
        predict_files(model, [clip], tmp_path / "out", max_frames=0)


def test_a_codec_or_a_package_that_is_missing(model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(video_streams, "ENCODER", "libnothing")
    assert "has no encoder for H.264; install" in refused(model, clip, tmp_path).error
    monkeypatch.setitem(sys.modules, "av", None)
    message = refused(model, clip, tmp_path).error
    assert "install it with `pip install 'ranet_jax[video]'`." in message
    assert list((tmp_path / "out").iterdir()) == []


def test_labels_that_are_there_already_are_kept(model, clip, tmp_path):
    labels = tmp_path / "out" / "clip_labels"
    labels.mkdir(parents=True)
    (result,) = predict_files(model, [clip], tmp_path / "out", frame_labels=True)
    assert "clip_labels exists already" in result.error
    assert list((tmp_path / "out").iterdir()) == [labels]


# ------------------------------------------------------------------------------ interruptions


def test_after_an_interruption_what_was_done_can_be_played(
    model, clip, tmp_path, monkeypatch, capsys
):
    interrupting(model, monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [clip], tmp_path / "out", frame_labels=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"clip_overlay.mp4", "clip_labels"}
    assert len(read_clip(tmp_path / "out" / "clip_overlay.mp4")[0]) == 5
    assert len(labels_of(tmp_path / "out" / "clip_labels")) == 5
    assert "clip_overlay.mp4 holds the first 5 frames." in capsys.readouterr().err


def test_before_the_first_frame_an_interruption_leaves_nothing(model, clip, tmp_path, monkeypatch):
    interrupting(model, monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [clip], tmp_path / "out", frame_labels=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interruption_waits_until_a_frame_is_written(model, clip, tmp_path, monkeypatch):
    add = video_streams.VideoFile.add

    def interrupted(self, picture, frame):
        if frame.time > 0:
            signal.raise_signal(signal.SIGINT)
        add(self, picture, frame)

    monkeypatch.setattr(video_streams.VideoFile, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [clip], tmp_path / "out", frame_labels=True)
    assert len(read_clip(tmp_path / "out" / "clip_overlay.mp4")[0]) == 2
    assert len(labels_of(tmp_path / "out" / "clip_labels")) == 2


def test_a_full_disk_ends_in_one_sentence(model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(
        video, "VideoFile", lambda path, seen: video_streams.VideoFile("/dev/full", seen)
    )
    with pytest.raises(UserError, match=r"clip\.mp4 cannot be written to .*No space left"):
        predict_files(model, [clip], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
