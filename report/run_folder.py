"""The folder of one training run: settings, metrics, a checkpoint to go on from, the final net.

settings.json    what was asked for
metrics.csv      a row for each epoch
checkpoint.npz   everything needed to go on exactly where the run was
model.npz        the final weights;  curves.png  the metrics as a picture
"""

import csv
import io
import json
from pathlib import Path

from nn.weights import load_npz, save_npz, write_whole


class RunFolder:
    """A run's files. Each is written whole, so a run killed at any moment leaves sound ones."""

    def __init__(self, path):
        self.path = Path(path)
        self.settings_file = self.path / "settings.json"
        self.checkpoint_file = self.path / "checkpoint.npz"
        self.model_file = self.path / "model.npz"
        self.metrics_file = self.path / "metrics.csv"
        self.curves_file = self.path / "curves.png"

    def holds_a_run(self):
        return self.settings_file.exists()

    def finished(self):
        return self.model_file.exists()

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
        text = json.dumps(settings, indent=2) + "\n"
        write_whole(self.settings_file, lambda file: file.write(text.encode()))

    def settings(self):
        try:
            return json.loads(self.settings_file.read_text())
        except ValueError as error:
            raise ValueError(f"{self.settings_file} is not sound JSON: {error}") from None

    def save_checkpoint(self, arrays, state):
        """arrays: {name: array}; state: what else there is to know, as JSON allows."""
        save_npz(self.checkpoint_file, {**arrays, "state": json.dumps(state)})

    def load_checkpoint(self):
        """(arrays, state) of the last checkpoint, or None before the first."""
        if not self.checkpoint_file.exists():
            return None
        arrays = load_npz(self.checkpoint_file)
        if "state" not in arrays:
            raise ValueError(f"{self.checkpoint_file} is not a checkpoint: it has no `state`")
        return arrays, json.loads(str(arrays.pop("state")))  # Python writes floats exactly

    def write_metrics(self, rows):
        """rows: a dict for each epoch, all with the same keys."""
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.metrics_file, lambda file: file.write(text.getvalue().encode()))


def free_folder(parent, name):
    """parent/name, or with -2, -3, ... behind it: the first that holds no run."""
    number = 1
    while True:
        path = Path(parent) / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
        number += 1
