"""What is drawn at the end of a run: each picture for itself, of no more than it shows."""

from pathlib import Path
from typing import Any

import numpy as np

from app.console import plain
from app.pictures import attempt

MOST_SHOWN = 24  # rows and columns of a picture


def training_pictures(settings: dict, rows: list[dict], folder: Path) -> None:
    """curves.png of a training; rows: those of metrics.csv."""
    mode = {"dg": "DG", "gg": "GG", "ggdg": "GG+DG", "joint": "DG + GG"}[settings["mode"]]
    title = plain(f"{Path(settings['net']).stem}, {mode}, seed {settings['seed']}")

    def curves(path):
        from app.pictures.curves import training_curves  # matplotlib takes a while to load

        training_curves(rows, title, path)

    attempt(curves, folder / "curves.png")


class ChainPictures:
    """The pictures of NodeChains that have reached their last iteration."""

    def __init__(self, chains: Any):
        s = self.settings = chains.settings
        self.chains, self.samples = chains, chains.pictures()
        heat = "" if chains.ascent else f", T={s['temperature']:g}"
        self.title = plain(
            f"{Path(s['net']).stem} {s['layer']}, {s['sampler']}, {s['iterations']} iterations, "
            f"q {s['reference']}, sigma={s['sigma']:g}{heat}, seed={s['seed']}"
        )
        self.units = s["unit"][:MOST_SHOWN]
        self.rows = [s["class_names"].get(str(unit), str(unit)) for unit in self.units]

    def draw(self, folder: Path) -> None:
        """All of them, in a folder."""
        channels = self.samples.shape[-1]
        if channels not in (1, 3):
            print(
                f"the images have {channels} channels, neither grey nor colour: pictures show a "
                "grey panel for each"
            )
        pictures = {"grid": self.grid, "sequence": self.sequence, "trace": self.trace}
        for name, draw in pictures.items():
            attempt(draw, folder / f"{name}.png")
        if self.settings["film"]:
            attempt(self.film, folder / "film.gif")

    def grid(self, path: Path) -> None:
        """The last images: units by chains."""
        from app.pictures.images import labelled

        shown = self.samples[:MOST_SHOWN, :MOST_SHOWN]
        units, chains = self.samples.shape[:2]
        cut = "" if shown.shape == self.samples.shape else f" (the first of {units} x {chains})"
        labelled(shown, self.rows, [""] * shown.shape[1], self.title + cut, path)

    def sequence(self, path: Path) -> None:
        """The first chain of each unit as it grows."""
        from app.pictures.images import labelled

        frames, stages = self.chains.frames, self.chains.stages
        grown = np.stack([frames[i][:MOST_SHOWN, 0] for i in stages], axis=1)
        labelled(grown, self.rows, [str(i) for i in stages], f"{self.title}: one chain", path)

    def trace(self, path: Path) -> None:
        """Score, energy and acceptance by iteration."""
        from app.pictures.images import traces

        traces(
            *(self.of_units(name, MOST_SHOWN) for name in ("score", "energy")),
            self.of_units("probability", self.settings["chains"]),
            self.units,
            self.chains.warm_up,
            self.title,
            path,
        )

    def of_units(self, name: str, most: int) -> np.ndarray:
        """A record of the units that are shown, and of the first chains of each."""
        each = self.settings["chains"]
        starts = [u * each for u in range(len(self.units))]
        return np.stack([self.chains.trace(name, slice(i, i + min(each, most))) for i in starts])

    def film(self, path: Path) -> None:
        """All chains as they grow."""
        from app.pictures.images import film

        frames = sorted(self.chains.frames.items())
        film([frame[:MOST_SHOWN, :MOST_SHOWN] for _, frame in frames], path)
