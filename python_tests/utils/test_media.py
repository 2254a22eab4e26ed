"""Images and videos."""

from __future__ import annotations

import importlib

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from machin_fast.utils.extras import MissingExtraError
from machin_fast.utils.media import (
    create_image,
    create_image_subproc,
    create_video,
    create_video_subproc,
    numpy_array_to_pil_image,
    show_image,
)

matplotlib.use("Agg")


def random(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def frames(count: int = 4, height: int = 6, width: int = 8) -> list[np.ndarray]:
    """Frames of one grey each, ever lighter."""
    return [np.full((height, width, 3), 50 * i, np.uint8) for i in range(count)]


def read_video(path) -> np.ndarray:
    """``[frames, height, width, 3]``."""
    reader = importlib.import_module("imageio_ffmpeg").read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader])


# -- images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_integers_are_0_to_255(dtype):
    image = random(5, 7, 3)
    made = numpy_array_to_pil_image(image.astype(dtype))
    assert made.mode == "RGB"
    assert np.array_equal(np.asarray(made), image)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_0_to_1(dtype):
    image = np.array([[0.0, 0.5, 1.0]], dtype)
    assert np.asarray(numpy_array_to_pil_image(image))[0, :, 0].tolist() == [0, 127, 255]


def test_numbers_beyond_are_clipped():
    def grey(*values):
        return np.asarray(numpy_array_to_pil_image(np.array([values])))[0, :, 0].tolist()

    assert grey(-1, 0, 255, 300) == [0, 0, 255, 255]
    assert grey(-0.1, 1.1, np.inf, -np.inf, np.nan) == [0, 255, 255, 0, 0]
    assert grey(False, True) == [0, 255]


def test_one_channel_is_grey_and_four_have_alpha():
    image = random(5, 7)
    grey = np.repeat(image[:, :, None], 3, axis=2)
    assert np.array_equal(np.asarray(numpy_array_to_pil_image(image)), grey)
    assert np.array_equal(np.asarray(numpy_array_to_pil_image(image[:, :, None])), grey)
    rgba = numpy_array_to_pil_image(random(5, 7, 4))
    assert (rgba.mode, rgba.size) == ("RGBA", (7, 5))


@pytest.mark.parametrize("subprocess", [False, True])
def test_an_image_file_is_written(tmp_path, subprocess):
    image = random(5, 7, 3)
    if subprocess:
        create_image_subproc(image, str(tmp_path), "a", daemon=False)()
    else:
        create_image(image, str(tmp_path), "a")
    with Image.open(tmp_path / "a.png") as found:
        assert np.array_equal(np.asarray(found), image)


def test_the_extension_is_the_format(tmp_path):
    create_image(random(8, 8), tmp_path, "a", ".jpg")
    with Image.open(tmp_path / "a.jpg") as found:
        assert found.format == "JPEG"
    with pytest.raises(ValueError, match="unknown file extension"):
        create_image(random(8, 8), tmp_path, "a", ".none")


# -- videos ----------------------------------------------------------------------------------------


def test_a_gif_has_all_frames_and_their_rate(tmp_path):
    create_video(frames(), str(tmp_path), "a", fps=20)
    with Image.open(tmp_path / "a.gif") as found:
        assert (found.n_frames, found.size, found.info["duration"]) == (4, (8, 6), 50)
        for i in range(4):
            found.seek(i)
            assert np.asarray(found.convert("RGB"))[0, 0].tolist() == [50 * i] * 3


@pytest.mark.parametrize("extension", [".mp4", ".webm", ".avi", ".mkv", ".MP4"])
def test_a_video_has_all_frames(tmp_path, extension):
    create_video(frames(height=32, width=48), tmp_path, "a", extension, fps=10)
    found = read_video(tmp_path / f"a{extension}")
    assert found.shape == (4, 32, 48, 3)
    for i, frame in enumerate(found):
        assert abs(frame.astype(int) - 50 * i).max() < 6


def test_odd_sizes_gain_a_row_and_a_column(tmp_path):
    create_video(frames(height=33, width=47), tmp_path, "a", ".mp4")
    assert read_video(tmp_path / "a.mp4").shape == (4, 34, 48, 3)


def test_frames_stay_as_they_are(tmp_path):
    given = [np.full((4, 4), 0.5), np.zeros((4, 4, 1)), np.ones((4, 4, 4), np.float32)]
    before = list(given)
    create_video(given, tmp_path, "a")
    assert all(a is b for a, b in zip(given, before, strict=True))
    assert given[0][0, 0] == 0.5
    with Image.open(tmp_path / "a.gif") as found:
        assert found.n_frames == 3


@pytest.mark.parametrize("extension", [".gif", ".mp4"])
def test_another_process_writes_a_video(tmp_path, extension):
    wait = create_video_subproc(frames(height=16, width=16), tmp_path, "a", extension)
    wait()
    wait()
    assert (tmp_path / f"a{extension}").stat().st_size > 0


def test_a_process_that_fails_is_told(tmp_path, capfd):
    wait = create_image_subproc(random(4, 4), tmp_path, "a", ".none")
    with pytest.raises(RuntimeError, match=r"create_image: the process .* got exit code 1"):
        wait()
    assert "unknown file extension" in capfd.readouterr().err


def test_a_format_that_ffmpeg_does_not_know_is_told(tmp_path, capfd):
    with pytest.raises(ValueError, match=r"a\.none must be a video that ffmpeg can write, got "):
        create_video(frames(), tmp_path, "a", ".none")
    assert capfd.readouterr() == ("", "")


def test_without_frames_nothing_is_written(tmp_path):
    create_video([], tmp_path / "nowhere", "a")
    create_video_subproc([], tmp_path / "nowhere", "a")()
    assert list(tmp_path.iterdir()) == []


# -- windows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [random(4, 6, 3), random(4, 6) / 255, random(4, 6) > 99])
def test_an_image_is_shown_alone_or_beside_its_normalized_one(image, monkeypatch):
    monkeypatch.setattr(plt, "pause", lambda seconds: paused.append(seconds))
    paused = []
    show_image(image, title="frame")
    figure = plt.figure("frame")
    shown, normalized = (each.images[0].get_array() for each in figure.axes)
    expected = image / 255 if image.dtype == np.uint8 else image.astype(float)
    np.testing.assert_allclose(shown, expected)
    assert normalized.min() == 0 and normalized.max() == pytest.approx(1, abs=1e-5)
    show_image(image, show_normalized=False, pause_time=0.5, title="frame")
    assert plt.figure("frame") is figure and len(figure.axes) == 1
    assert paused == [0.01, 0.5]
    plt.close(figure)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refuse",
    [
        lambda image: numpy_array_to_pil_image(image),
        lambda image: create_image(image, ".", "a"),
        lambda image: create_image_subproc(image, ".", "a"),
        lambda image: create_video([image], ".", "a"),
        lambda image: create_video_subproc([image], ".", "a"),
        lambda image: show_image(image),
    ],
)
def test_what_is_no_picture_is_refused(refuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for shape in ([4], [4, 4, 2], [4, 4, 3, 1]):
        with pytest.raises(ValueError, match=r"must be \[height, width\] or .* got \[4"):
            refuse(np.zeros(shape))
    with pytest.raises(ValueError, match=r"must not be empty, got \[0, 4\]"):
        refuse(np.zeros((0, 4)))
    with pytest.raises(TypeError, match="must be an array of integers, floats or bools, got compl"):
        refuse(np.zeros((4, 4), complex))
    with pytest.raises(TypeError, match="must be an array of integers, floats or bools, got list"):
        refuse([[1, 2]])
    assert list(tmp_path.iterdir()) == []


def test_frames_of_other_sizes_are_refused_with_their_position(tmp_path):
    for write in (create_video, create_video_subproc):
        with pytest.raises(ValueError, match=r"one size, \[6, 8\], got \[6, 9\] at position 4"):
            write([*frames(), *frames(width=9)], tmp_path, "a")
        with pytest.raises(ValueError, match="fps must be above 0, got 0"):
            write(frames(), tmp_path, "a", fps=0)
    with pytest.raises(TypeError, match="create_video: frame 1 must be an array"):
        create_video([*frames(1), None], tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extension", [".gif", ".mp4"])
def test_a_folder_that_is_not_there_is_refused(tmp_path, extension):
    for write in (create_video, create_video_subproc):
        with pytest.raises(FileNotFoundError, match="path must be a folder that exists, got"):
            write(frames(), tmp_path / "no", "a", extension)
    for write in (create_image, create_image_subproc):
        with pytest.raises(FileNotFoundError, match="path must be a folder that exists, got"):
            write(random(2, 2), tmp_path / "no", "a")


def test_what_is_not_installed_comes_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for use in (
        lambda: show_image(random(2, 2)),
        lambda: create_image(random(2, 2), tmp_path, "a"),
        lambda: create_image_subproc(random(2, 2), tmp_path, "a"),
        lambda: create_video(frames(), tmp_path, "a"),
        lambda: create_video_subproc(frames(), tmp_path, "a", ".mp4"),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'machin_fast\[media\]'"):
            use()
    create_video([], tmp_path, "a")
