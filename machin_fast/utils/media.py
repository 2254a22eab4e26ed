"""Images and videos, shown or written to files.

A picture is an array ``[height, width]`` or ``[height, width, channels]`` of 1, 3 or 4 channels:
integers from 0 to 255, floats from 0 to 1, or bools. Numbers beyond are clipped.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from machin_fast.utils.extras import need

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = NDArray[Any]


def show_image(
    image: Picture, show_normalized: bool = True, pause_time: float = 0.01, title: str = ""
) -> None:
    """Shows a picture in a window. Called again with the same title, in the same window.

    Args:
        image: The picture.
        show_normalized: Show it also with its least value black and its largest white.
        pause_time: Seconds to wait, in which the window is drawn.
        title: Of the window.

    Raises:
        TypeError: The numbers are of another dtype.
        ValueError: The array has another shape.
        MissingExtraError: matplotlib is not installed.
    """
    _check_picture("show_image: image", image)
    need("matplotlib", extra="media", for_what="show_image")
    import matplotlib.pyplot as plt

    pixels = image / 255 if np.issubdtype(image.dtype, np.integer) else image.astype(float)
    least, largest = pixels.min(), pixels.max()
    shown = [(pixels, least, largest)]
    if show_normalized:
        shown.append(((pixels - least) / (largest - least + 1e-6), 0, 1))
    figure = plt.figure(title, clear=True)
    if figure.canvas.manager is not None:
        figure.canvas.manager.set_window_title(title)
    for i, (values, black, white) in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), i + 1, facecolor="black")
        axes.imshow(values, vmin=black, vmax=white)
    plt.pause(pause_time)


def create_video(
    frames: Sequence[Picture],
    path: str | os.PathLike[str],
    filename: str,
    extension: str = ".gif",
    fps: float = 15,
) -> None:
    """Writes a video; without frames, nothing.

    Args:
        frames: Pictures of one size.
        path: Folder of the file.
        filename: Its name, without the extension.
        extension: Its extension, which tells the format: ``.gif``, ``.mp4``, ``.webm``, ...
            In all but GIFs an odd row or column gets a black one beside it.
        fps: Frames per second. A GIF holds hundredths of a second, and most programs show at most
            50 frames per second.

    Raises:
        TypeError: The numbers are of another dtype.
        ValueError: An array has another shape, ``fps`` is not above 0, or the extension is of no
            format.
        FileNotFoundError: There is no such folder.
        MissingExtraError: Pillow or imageio-ffmpeg is not installed.
    """
    frames = _check_video("create_video", frames, path, extension, fps)
    if not frames:
        return
    file = Path(path, filename + extension)
    if extension.lower() == ".gif":
        first, *others = (numpy_array_to_pil_image(frame) for frame in frames)
        duration = 1000 / fps
        first.save(file, save_all=True, append_images=others, duration=duration, loop=0)
    else:
        _write_with_ffmpeg(file, frames, fps)


def create_video_subproc(
    frames: Sequence[Picture],
    path: str | os.PathLike[str],
    filename: str,
    extension: str = ".gif",
    fps: float = 15,
    daemon: bool = True,
) -> Callable[[], None]:
    """Writes a video in another process, since it takes long. Otherwise as ``create_video``.

    Args:
        frames, path, filename, extension, fps: As for ``create_video``.
        daemon: Whether the process ends, unfinished, when this one does.

    Returns:
        A function that waits until the file is there. It raises RuntimeError if that failed.

    Raises:
        TypeError, ValueError, FileNotFoundError, MissingExtraError: As ``create_video``.
    """
    frames = _check_video("create_video_subproc", frames, path, extension, fps)
    if not frames:
        return lambda: None
    return _in_process(create_video, (frames, path, filename, extension, fps), daemon)


def numpy_array_to_pil_image(image: Picture) -> Image:
    """A picture as an image of Pillow, in colour.

    Args:
        image: The picture.

    Returns:
        The image, RGB, or RGBA of 4 channels.

    Raises:
        TypeError: The numbers are of another dtype.
        ValueError: The array has another shape.
        MissingExtraError: Pillow is not installed.
    """
    need("PIL", extra="media", for_what="An image")
    from PIL import Image

    return Image.fromarray(_to_bytes("numpy_array_to_pil_image: image", image))


def create_image(
    image: Picture, path: str | os.PathLike[str], filename: str, extension: str = ".png"
) -> None:
    """Writes an image file.

    Args:
        image: The picture.
        path: Folder of the file.
        filename: Its name, without the extension.
        extension: Its extension, which tells the format.

    Raises:
        TypeError: The numbers are of another dtype.
        ValueError: The array has another shape, or the extension is of no format.
        FileNotFoundError: There is no such folder.
        MissingExtraError: Pillow is not installed.
    """
    _check_folder("create_image", path)
    numpy_array_to_pil_image(image).save(Path(path, filename + extension))


def create_image_subproc(
    image: Picture,
    path: str | os.PathLike[str],
    filename: str,
    extension: str = ".png",
    daemon: bool = True,
) -> Callable[[], None]:
    """Writes an image file in another process. Otherwise as ``create_image``.

    Args:
        image, path, filename, extension: As for ``create_image``.
        daemon: Whether the process ends, unfinished, when this one does.

    Returns:
        A function that waits until the file is there. It raises RuntimeError if that failed.

    Raises:
        TypeError, ValueError, FileNotFoundError, MissingExtraError: As ``create_image``.
    """
    need("PIL", extra="media", for_what="An image")
    _check_folder("create_image_subproc", path)
    pixels = _to_bytes("create_image_subproc: image", image)
    return _in_process(create_image, (pixels, path, filename, extension), daemon)


# -- how ---------------------------------------------------------------------------------------


def _check_picture(what: str, image: Picture) -> None:
    kind = image.dtype.kind if isinstance(image, np.ndarray) else None
    if kind is None or kind not in "iufb":
        got = type(image).__name__ if kind is None else image.dtype
        raise TypeError(f"{what} must be an array of integers, floats or bools, got {got}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"{what} must be [height, width] or [height, width, channels] with 1, 3 or 4 channels, "
            f"got {list(image.shape)}"
        )
    if not image.size:
        raise ValueError(f"{what} must not be empty, got {list(image.shape)}")


def _to_bytes(what: str, image: Picture) -> NDArray[np.uint8]:
    """``[height, width, 3 or 4]``."""
    _check_picture(what, image)
    if image.dtype != np.uint8:
        scaled = image if image.dtype.kind in "iu" else image * np.float64(255)
        image = np.nan_to_num(scaled).clip(0, 255).astype(np.uint8)
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _check_folder(what: str, path: str | os.PathLike[str]) -> None:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{what}: path must be a folder that exists, got {path}")


def _check_video(
    what: str,
    frames: Sequence[Picture],
    path: str | os.PathLike[str],
    extension: str,
    fps: float,
) -> list[NDArray[np.uint8]]:
    """The frames, ``[height, width, 3]``, of which there may be none."""
    if not len(frames):
        return []
    if not fps > 0:
        raise ValueError(f"{what}: fps must be above 0, got {fps}")
    _check_folder(what, path)
    gif = extension.lower() == ".gif"
    need("PIL" if gif else "imageio_ffmpeg", extra="media", for_what=f"A {extension} video")
    pictures = [_to_bytes(f"{what}: frame {i}", f)[:, :, :3] for i, f in enumerate(frames)]
    for i, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            raise ValueError(
                f"{what}: frames must have one size, {list(pictures[0].shape[:2])}, "
                f"got {list(picture.shape[:2])} at position {i}"
            )
    return pictures


def _write_with_ffmpeg(file: Path, frames: Sequence[NDArray[np.uint8]], fps: float) -> None:
    height, width, _ = frames[0].shape
    ffmpeg = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    pixels = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    # What most programs play; it wants even numbers of rows and columns.
    video = ["-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
    command = [ffmpeg, "-y", "-v", "error", *pixels, "-i", "pipe:", *video, f"file:{file}"]
    pictures = np.stack(frames).ravel().data
    done = subprocess.run(command, input=pictures, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(
            f"create_video: {file} must be a video that ffmpeg can write, got "
            f"{done.stderr.decode(errors='replace').strip()}"
        )


def _in_process(
    function: Callable[..., None], args: tuple[Any, ...], daemon: bool
) -> Callable[[], None]:
    process = multiprocessing.get_context("spawn").Process(
        target=function, args=args, daemon=daemon
    )
    process.start()

    def wait() -> None:
        process.join()
        if process.exitcode:
            raise RuntimeError(
                f"{function.__name__}: the process that writes must end well, got exit code "
                f"{process.exitcode}. What it printed says why"
            )

    return wait
