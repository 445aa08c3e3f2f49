"""What is drawn at the end of a run: each picture for itself, of no more than it shows."""

from pathlib import Path
from typing import Any

import numpy as np

from app.console import by, plain
from app.pictures import attempt
from nn.canvas import receptive_field

MOST_SHOWN = 24  # rows and columns of a picture
STARTS_IN_WORDS = {"noise": "noise", "ascent": "an ascent"}


def training_pictures(training: Any, folder: Path) -> None:
    """Of a Training that has come to its end: its curves, and the chains of --mode samples."""
    settings, rows = training.settings, training.rows
    names = {"dg": "DG", "gg": "GG", "ggdg": "GG+DG", "dgdg": "DG+DG"}
    names |= {"joint": "DG + GG", "samples": "samples"}
    mode = names[settings["mode"]]
    data = Path(settings["data"]).name if settings["data"] else "MNIST"
    heading = plain(f"{Path(settings['net']).stem} on {data}, {mode}, seed {settings['seed']}")

    def curves(path):
        from app.pictures.curves import sampled_curves, training_curves  # matplotlib loads slowly

        (sampled_curves if mode == "samples" else training_curves)(rows, heading, path)

    def chains(path):
        from app.pictures.images import Block, image_table

        shown = training.pictures[:, :MOST_SHOWN]  # (stages, classes, H, W, C)
        shown = shown[..., ::-1] if settings["pixel_order"] == "bgr" else shown
        updates = [f"{update} updates" for update in training.stages]
        classes = [str(y) for y in range(shown.shape[1])]
        told = f"{heading}.\nA chain of each class, in the course of learning."
        image_table([Block(list(shown), classes)], updates, "class", told, path)

    kind = settings["format"]
    attempt(curves, folder / f"curves.{kind}")
    if mode == "samples":
        attempt(chains, folder / f"chains.{kind}")


def reference_and_heat(settings: dict) -> str:
    """The reference distribution and the temperature, as a picture names them."""
    s = settings
    data = f" of {Path(s['reference_data']).name}" if s["reference_data"] else ""
    name = "kept with the weights" if s["reference"] == "file" else s["reference"]
    return f"reference q: {name}{data}, sigma = {s['sigma']:g}, T = {s['temperature']:g}"


def unit_names(settings: dict) -> list[str]:
    """Of the units that a picture shows."""
    names = settings["class_names"]
    return [plain(names.get(str(u), f"unit {u}")) for u in settings["unit"][:MOST_SHOWN]]


class ChainPictures:
    """The pictures of NodeChains that have reached their last iteration."""

    def __init__(self, chains: Any):
        self.settings = chains.settings
        self.chains, self.samples, self.shown = chains, chains.pictures(), chains.shown()
        self.rows = unit_names(self.settings)

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
            attempt(draw, folder / f"{name}.{self.settings['format']}")
        if self.settings["film"]:
            attempt(self.film, folder / "film.gif")

    def heading(self, what: str, most: int = MOST_SHOWN, pictures: bool = True) -> str:
        """What a picture shows; of what net, how it was drawn, and how large a unit's view is."""
        s, (H, W, _) = self.settings, self.chains.network.input_shape
        units, chains = self.samples.shape[:2]
        if max(units, chains) > most:
            what += f" (the first of {units} units and {chains} chains)"
        sampler = {"hmc": "HMC", "langevin": "Langevin", "ascent": "activation maximisation"}
        start = STARTS_IN_WORDS.get(s["start"]) or Path(s["start"]).name
        sees = f"Images of {H} x {W} pixels: all that a unit sees"
        if s["position"]:
            field = by(receptive_field(self.chains.network, s["layer"]))
            sees = f"Images of {H} x {W} pixels, of which a unit sees {field}"
        lines = [
            f"{Path(s['net']).stem} {s['layer']}: {what}",
            f"{reference_and_heat(s)}; {sampler[s['sampler']]}, seed {s['seed']}",
            f"{s['iterations']} iterations, from {start}. {sees}.",
        ]
        if pictures and (noise := self.chains.reference.noise):
            lines.append(f"The net learned images with noise ({noise:.2g}): here without it.")
        return "\n".join(map(plain, lines))

    def grid(self, path: Path) -> None:
        """The last images: units by chains."""
        from app.pictures.images import Block, image_table

        shown = self.shown[:MOST_SHOWN, :MOST_SHOWN]
        chains = [str(k + 1) for k in range(shown.shape[1])]
        heading = self.heading("the last images of all chains")
        image_table([Block(list(shown), chains)], self.rows, "chain", heading, path)

    def sequence(self, path: Path) -> None:
        """The first chain of each unit as it grows."""
        from app.pictures.images import Block, image_table

        frames, stages = self.chains.frames, self.chains.stages
        grown = np.stack([frames[i][:MOST_SHOWN, 0] for i in stages], axis=1)
        heading = self.heading("the first chain of each unit, as it grows")
        block = Block(list(grown), [str(i) for i in stages])
        image_table([block], self.rows, "iteration", heading, path)

    def trace(self, path: Path) -> None:
        """Score, energy and acceptance by iteration."""
        from app.pictures.traces import MOST, traces

        units, each = self.rows[:MOST], self.settings["chains"]

        def of_units(name, most):
            starts = [u * each for u in range(len(units))]
            return np.stack(
                [self.chains.trace(name, slice(i, i + min(each, most))) for i in starts]
            )

        probability = None if self.chains.ascent else of_units("probability", each)
        heading = self.heading("a line for each chain", MOST, pictures=False)
        energies = of_units("score", MOST), of_units("energy", MOST)
        traces(*energies, probability, units, self.chains.warm_up, heading, path)

    def film(self, path: Path) -> None:
        """All chains as they grow."""
        from app.pictures.images import film

        frames = self.chains.frames.items()
        shown = {i: frame[:MOST_SHOWN, :MOST_SHOWN] for i, frame in frames}
        film(shown, self.rows, self.heading("all chains, as they grow"), path)
