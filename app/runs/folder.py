"""The folder of one run: what was asked for, a checkpoint to go on from, what came out.

settings.json    what was asked for
checkpoint.npz   everything needed to go on exactly where the run was
the results      model.npz or diagnostics.json, written once all numbers are there; then pictures
.lock            held by the process that is at work here; never replaced
"""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.files import hold, parse_json, read_text, write_whole
from app.formats.npz import load_npz, save_npz

Settings = dict[str, Any]


class RunFolder:
    """A run's files. Each is written whole, so a run killed at any moment leaves sound ones.

    results: names of what comes out, the numbers first: without the pictures behind them a run
    is finished in all but these.
    """

    def __init__(self, path: str | Path, results: tuple = ("model.npz",)):
        self.path = Path(path)
        self.settings_file = self.path / "settings.json"
        self.checkpoint_file = self.path / "checkpoint.npz"
        self.result_file, *self.pictures = (self.path / name for name in results)

    def holds_a_run(self) -> bool:
        return self.settings_file.exists()

    def finished(self) -> bool:
        """Whether nothing is left to do, or to draw from the checkpoint."""
        if not self.result_file.exists():
            return False
        drawn = all(picture.exists() for picture in self.pictures)
        return drawn or not self.checkpoint_file.exists()

    def check_free(self) -> None:
        """ValueError if the folder already holds something."""
        if self.holds_a_run():
            raise ValueError(
                f"{self.path} already holds a run: go on with --resume {self.path}, "
                "or choose another --out"
            )
        if self.path.exists() and any(
            not file.name.startswith((".writing-", ".lock")) for file in self.path.iterdir()
        ):
            raise ValueError(f"{self.path} is not empty and holds no run: choose another --out")

    def create(self, settings: Settings) -> None:
        """Begin a run here."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.open(settings)
        self.check_free()
        write_json(self.settings_file, settings)

    def open(self, settings: Settings) -> None:
        """Take the folder for this process. ValueError if another process is at work in it."""
        self.settings = settings
        self.lock = hold(self.path / ".lock", f"another process is at work in {self.path}")
        for leftover in self.path.glob(".writing-*"):  # of a process that was killed
            leftover.unlink()

    def read_settings(self, checked: Callable[[Settings], Settings]) -> Settings:
        """The run's settings, as checked(settings) returns them.

        ValueError if they are of another program, or what no command line could ask for.
        """
        settings = parse_json(read_text(self.settings_file), self.settings_file)
        try:
            return checked(settings)
        except ValueError as error:
            raise ValueError(f"{self.settings_file}: {error}") from None

    def save_checkpoint(self, arrays: dict[str, np.ndarray], state: dict) -> None:
        """arrays: {name: array}; state: what else there is to know, as JSON allows."""
        text = json.dumps({"settings": self.settings, **state})
        save_npz(self.checkpoint_file, {**arrays, "state": text})

    def load_checkpoint(self, restore: Callable[[dict, dict], Any]) -> None:
        """Call restore(arrays, state) with the last checkpoint, if there is one.

        ValueError if it is of another run, or is not sound.
        """
        if not self.checkpoint_file.exists():
            return
        anew = "remove it to begin this run anew"
        try:
            arrays = load_npz(self.checkpoint_file)
        except ValueError as error:
            raise ValueError(f"{error}; {anew}") from None
        try:
            if "state" not in arrays:
                raise ValueError("it has no state")
            state = parse_json(str(arrays.pop("state")), "state")  # Python writes floats exactly
            if not isinstance(state, dict) or not isinstance(state.get("settings"), dict):
                raise ValueError("it has other settings")
            made = state.pop("settings")  # a run made before an option was added lacks it
            if self.settings | made != self.settings:
                raise ValueError("it has other settings")
            restore(arrays, state)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            why = error if isinstance(error, ValueError) else repr(error)
            message = f"{self.checkpoint_file} is not of this run: {why}; {anew}"
            raise ValueError(message) from None

    def kept(self) -> str:
        """What was kept of an unfinished run, in words."""
        if self.checkpoint_file.exists():
            file = self.checkpoint_file
            return f"the last good checkpoint is {file}: --resume {self.path} goes on from there"
        return "before the first checkpoint"


def write_json(path: str | Path, contents: Any) -> None:
    text = json.dumps(contents, indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_csv(path: str | Path, rows: list[dict]) -> None:
    """rows: a dict for each row, all with the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def free_folder(parent: str | Path, name: str) -> Path:
    """parent/name, or with -2, -3, ... behind it: the first that holds no run."""
    name = re.sub(r"[^\w.-]+", "_", name)  # a layer in a file may be named /conv1/Conv
    number = 1
    while True:
        path = Path(parent) / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
        number += 1


def open_run(
    given: Settings,
    complete: Callable[[Settings], Settings],
    checked: Callable[[Settings], Settings],
    parent: str,
    name: str,
    results: Callable[[Settings], tuple],
) -> tuple[Settings, RunFolder, bool]:
    """(settings, RunFolder, whether it is resumed) from the options given on a command line.

    complete(given) -> all settings; checked(settings of a file) -> the same, or ValueError;
    results(settings) -> names of files. Without an --out, the folder is a new one under `parent`,
    with a `name` into which the settings are filled. A resumed run keeps the settings it was begun
    with. ValueError if the command contradicts them or the folder holds something else.
    """
    resume, out = given.pop("resume", False), given.pop("out", None)
    if resume and out and Path(resume).resolve() != Path(out).resolve():
        raise ValueError(f"--resume {resume} and --out {out} name two folders")
    if resume is not False:
        run = RunFolder(resume or out or latest_run(parent, results({})[:1]))
        if not run.holds_a_run() and out is None:
            raise ValueError(f"nothing to resume: {run.path} holds no run")
        if run.holds_a_run():
            settings = run.read_settings(checked)
            for option, value in given.items():
                if value != settings[option]:
                    raise ValueError(
                        f"{run.path} has {option.replace('_', '-')} {settings[option]}, the "
                        f"command says {value}: a resumed run keeps its settings; for a new one, "
                        "choose another --out"
                    )
            run = RunFolder(run.path, results(settings))
            if not run.finished():
                run.open(settings)
            return settings, run, True
    # A new run; or one that was killed before it began, or the first of several tries.
    settings = complete(given)
    net = Path(settings["net"]).stem
    run = RunFolder(
        out or free_folder(parent, name.format(**settings | {"net": net})), results(settings)
    )
    run.check_free()
    return settings, run, False


def latest_run(parent: str | Path, results: tuple) -> Path:
    """The run under `parent` that was written to last, of those that lack these results."""
    runs = [RunFolder(path.parent, results) for path in Path(parent).glob("*/settings.json")]
    unfinished = [run for run in runs if not run.finished()]
    if not unfinished:
        raise ValueError(f"nothing to resume under {parent}/: name the folder, --resume FOLDER")
    return max(unfinished, key=lambda run: run.path.stat().st_mtime).path
