"""The folder of one run: what was asked for, a checkpoint to go on from, what came out.

settings.json    what was asked for
checkpoint.npz   everything needed to go on exactly where the run was
the result       model.npz or diagnostics.json: written last, so a folder that has it is finished
"""

import csv
import io
import json
from pathlib import Path

from app.files import hold, write_whole
from app.formats.npz import load_npz, save_npz


class RunFolder:
    """A run's files. Each is written whole, so a run killed at any moment leaves sound ones."""

    def __init__(self, path, result="model.npz"):
        self.path = Path(path)
        self.settings_file = self.path / "settings.json"
        self.checkpoint_file = self.path / "checkpoint.npz"
        self.result_file = self.path / result

    def holds_a_run(self):
        return self.settings_file.exists()

    def finished(self):
        return self.result_file.exists()

    def check_free(self):
        """ValueError if the folder already holds something."""
        if self.holds_a_run():
            raise ValueError(
                f"{self.path} already holds a run: go on with --resume {self.path}, "
                "or choose another --out"
            )
        if self.path.exists() and any(
            not file.name.startswith(".writing-") for file in self.path.iterdir()
        ):
            raise ValueError(f"{self.path} is not empty and holds no run: choose another --out")

    def create(self, settings):
        """Begin a run here."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.check_free()
        write_json(self.settings_file, settings)
        self.open(settings)

    def open(self, settings):
        """Take the folder for this process. ValueError if another process is at work in it."""
        self.settings = settings
        self.lock = open(self.settings_file, "rb")  # noqa: SIM115  held until the process ends
        hold(self.lock, f"another process is at work in {self.path}")
        for leftover in self.path.glob(".writing-*"):  # of a process that was killed
            leftover.unlink()

    def read_settings(self, names):
        """The run's settings. ValueError if they are not those of a run with these names."""
        try:
            settings = json.loads(self.settings_file.read_text())
        except ValueError as error:
            raise ValueError(f"{self.settings_file} is not sound JSON: {error}") from None
        if not isinstance(settings, dict) or settings.keys() != names:
            raise ValueError(f"{self.path} holds the run of another program")
        return settings

    def save_checkpoint(self, arrays, state):
        """arrays: {name: array}; state: what else there is to know, as JSON allows."""
        text = json.dumps({"settings": self.settings, **state})
        save_npz(self.checkpoint_file, {**arrays, "state": text})

    def load_checkpoint(self, restore):
        """Call restore(arrays, state) with the last checkpoint, if there is one.

        ValueError if it is of another run.
        """
        if not self.checkpoint_file.exists():
            return
        try:
            arrays = load_npz(self.checkpoint_file)
        except ValueError as error:
            raise ValueError(f"{error}; remove it to begin this run anew") from None
        try:
            state = json.loads(str(arrays.pop("state")))  # Python writes floats exactly
            if state.pop("settings") != self.settings:
                raise ValueError("it has other settings")
            restore(arrays, state)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{self.checkpoint_file} is not of this run: {error}") from None


def write_json(path, contents):
    text = json.dumps(contents, indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_csv(path, rows):
    """rows: a dict for each row, all with the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def free_folder(parent, name):
    """parent/name, or with -2, -3, ... behind it: the first that holds no run."""
    number = 1
    while True:
        path = Path(parent) / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
        number += 1


def open_run(given, complete, parent, name, result):
    """(settings, RunFolder, whether it is resumed) from the options given on a command line.

    complete(given) -> all settings. Without an --out, the folder is a new one under `parent`, with
    a `name` into which the settings are filled. A resumed run keeps the settings it was begun
    with. ValueError if the command contradicts them or the folder holds something else.
    """
    resume, out = given.pop("resume", False), given.pop("out", None)
    if resume and out and Path(resume).resolve() != Path(out).resolve():
        raise ValueError(f"--resume {resume} and --out {out} name two folders")
    if "" in (resume, out):
        raise ValueError("the name of a folder must not be empty")
    if resume is False:
        settings = complete(given)
        net = Path(settings["net"]).stem
        run = RunFolder(out or free_folder(parent, name.format(**settings | {"net": net})), result)
        run.check_free()
        return settings, run, False

    run = RunFolder(resume or out or latest_run(parent, result), result)
    if not run.holds_a_run():
        if out is None:
            raise ValueError(f"nothing to resume: {run.path} holds no run")
        run.check_free()  # killed before it began, or the first of several tries
        return complete(given), run, False
    settings = run.read_settings(complete({}).keys())
    for option, value in given.items():
        if value != settings[option]:
            raise ValueError(
                f"{run.path} has {option.replace('_', '-')} {settings[option]}, the command "
                f"says {value}: a resumed run keeps its settings; for a new one, choose another "
                "--out"
            )
    run.open(settings)
    return settings, run, True


def latest_run(parent, result):
    """The unfinished run under `parent` that was written to last."""
    runs = [RunFolder(path.parent, result) for path in Path(parent).glob("*/settings.json")]
    unfinished = [run for run in runs if not run.finished()]
    if not unfinished:
        raise ValueError(f"nothing to resume under {parent}/: name the folder, --resume FOLDER")
    return max(unfinished, key=lambda run: run.path.stat().st_mtime).path
