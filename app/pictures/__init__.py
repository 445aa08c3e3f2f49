"""Pictures: samples, curves, tables. Of these canvas.py alone imports matplotlib."""

import warnings
from collections.abc import Callable
from pathlib import Path

from app.console import one_line, warn


def attempt(draw: Callable[[Path], None], path: Path) -> None:
    """draw(path). What hinders it is said, and costs this picture alone: numbers are kept."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            draw(path)
    except Exception as error:  # noqa: BLE001  matplotlib, Pillow and disks fail in many ways
        warn(f"{path} could not be drawn: {one_line(error) or type(error).__name__}")
