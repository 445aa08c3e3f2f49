"""docs/explore.html: what is measured, kept as numbers and images, and put into the template.

The page is build(numbers, images) and nothing else: docs/numbers/page.json and docs/images/page are
all that it knows of the runs. A test makes it anew from them and compares.
"""

import base64
import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app import ASSETS, ROOT
from app.data.load import load
from app.files import parse_json, read_text, write_whole
from app.formats.net import open_network
from app.formats.npz import load_npz
from app.options import visualize
from app.options.visualize_settings import asked_source
from app.paper.figures import alexnet_jobs, lenet_jobs
from app.paper.jobs import run_all
from app.paper.sampling import growth_of, result_of
from app.paper.tables import Report
from app.paper.teaching import batch_shown, scores_while_learning
from app.runs.folder import RunFolder, Settings
from app.runs.node import load_network
from hmc.diagnostics import judgement
from losses.discriminative import log_softmax

HERE = Path(__file__).parent
DOCS = ROOT / "docs"
MOMENTS = [0, 10, 20, 40, 60, 100, 150, 250, 400, 600, 938]  # batches of GG: an epoch
UNITS = {"conv2": [1], "conv3": [2], "conv4": [0], "conv5": [0, 2]}  # shown, of figure 5's
REFERENCES = "white", "natural", "data"
LARGEST = 8 * 2**20  # bytes of the page
FIGURES = "figure6", "figure7"  # shown if their runs are under --out


@dataclass
class Run:
    """A finished run of visualize.py, as sampling.py reads one."""

    folder: Path
    settings: Settings


def page(settings: Any) -> Report:
    """docs/explore.html: the losses, HMC and the nodes, to be tried out in a browser."""
    numbers, images = measured(settings)
    html = build(numbers, images)
    lines = ["Open it in a browser; it needs no network and no server."]
    if not settings.quick:
        keep(numbers, images)
        lines.append("Written to docs/explore.html, docs/numbers/page.json and docs/images/page.")

    def draw(path):
        write_whole(path, lambda file: file.write(html))

    return lines, numbers, draw


def keep(numbers: dict, images: dict[str, bytes]) -> None:
    """The page, and all that it is made of, under docs."""
    folder = DOCS / "images" / "page"
    folder.mkdir(parents=True, exist_ok=True)
    (DOCS / "numbers").mkdir(exist_ok=True)
    for old in set(folder.iterdir()) - {folder / name for name in images}:
        old.unlink()
    for name, content in images.items():
        write_whole(folder / name, lambda file, content=content: file.write(content))
    text = as_json(numbers).encode()
    write_whole(DOCS / "numbers" / "page.json", lambda file: file.write(text))
    html = build(numbers, images)
    write_whole(DOCS / "explore.html", lambda file: file.write(html))


def kept() -> tuple[dict, dict[str, bytes]]:
    """The numbers and the images that `keep` wrote."""
    numbers = json.loads((DOCS / "numbers" / "page.json").read_text(encoding="utf-8"))
    paths = sorted((DOCS / "images" / "page").iterdir())
    return numbers, {path.name: path.read_bytes() for path in paths}


def as_json(numbers: dict) -> str:
    """A line for each chain, so that a change of one can be seen."""
    lines = [f'"{key}": {json.dumps(value)}' for key, value in numbers.items() if key != "chains"]
    chains = ",\n".join(json.dumps(chain) for chain in numbers["chains"])
    return "{\n" + ",\n".join([*lines, f'"chains": [\n{chains}\n]']) + "\n}\n"


def build(numbers: dict, images: dict[str, bytes]) -> bytes:
    """The page: the template with its style, its script and what is shown, in one file."""
    sprites = {
        name: f"data:image/{Path(name).suffix[1:]};base64,{base64.b64encode(content).decode()}"
        for name, content in sorted(images.items())
    }
    data = json.dumps(numbers | {"images": sprites}, separators=(",", ":")).replace("</", "<\\/")
    html = (HERE / "template.html").read_text(encoding="utf-8")
    script = "".join((HERE / n).read_text(encoding="utf-8") for n in ("formulas.js", "page.js"))
    style = (HERE / "style.css").read_text(encoding="utf-8")
    for name, text in (("style", style), ("script", script), ("data", data)):
        html = html.replace(f"[[{name}]]", text)
    content = html.encode()
    if len(content) > LARGEST:
        raise ValueError(f"the page has {len(content):,} bytes, at most are {LARGEST:,}")
    return content


def measured(settings: Any) -> tuple[dict, dict[str, bytes]]:
    """(numbers, {file: image}) of the runs, which are those of figures 3 and 5 and one of GG."""
    jobs = lenet_jobs(settings, *REFERENCES)
    deeper = alexnet_jobs(settings)
    if not settings.quick:
        deeper = {layer: deeper[layer] for layer in UNITS}
    runs = [*jobs.values(), *(job for pair in deeper.values() for job in pair.values())]
    run_all(runs[::-1], "page", settings.device)  # the longest first
    runs += [run for name in FIGURES for run in given(settings.out / name / "chains")]
    chains, images = [], {}
    for run in runs:
        found, sprite = chains_of(run)
        file = f"{run.folder.parent.name}-{run.folder.name}{suffix(sprite)}"
        images[file] = encoded(sprite)
        chains += [chain | {"image": file} for chain in found]
    numbers = {"batch": batch(settings.quick, images)}
    numbers["learned"] = learned(settings.out / "samples", images)
    return numbers | {"chains": chains}, images


def given(folder: Path) -> list[Run]:
    """The run of visualize.py in a folder, if there is one that is finished."""
    run = RunFolder(folder, ("diagnostics.json",))
    if not (run.holds_a_run() and run.finished()):
        return []
    return [Run(folder, run.read_settings(visualize.checked))]


def batch(quick: bool, images: dict[str, bytes]) -> dict:
    """Section 1: the scores of a batch while a LeNet learns by GG. Adds its image."""
    moments = [m for m in MOMENTS if m <= (20 if quick else max(MOMENTS))]
    scores, labels = scores_while_learning({str(m): m for m in moments})
    x, _ = batch_shown(load()[1])
    images["batch.png"] = encoded(tiled(np.uint8(np.rint(x * 256)).reshape(8, 8, 28, 28, 1)))
    return {
        "labels": labels.tolist(),
        "moments": moments,
        "scores": [np.round(scores[str(m)].astype(float), 4).tolist() for m in moments],
    }


def chains_of(run: Any) -> tuple[list[dict], np.ndarray]:
    """Section 3: what the first chain of each unit shown came to, and its images as a sprite."""
    s = run.settings
    result_of(run)  # ValueError if the files are not this run's
    grown, records = growth_of(run), load_npz(run.folder / "checkpoint.npz")
    stages = sorted(grown)
    of_alexnet = s["net"] == "alexnet-torchvision"
    rows = [k for k, u in enumerate(s["unit"]) if not of_alexnet or u in UNITS.get(s["layer"], [u])]
    x = np.stack([grown[i] for i in stages], axis=1)[rows]  # (units, stages, H, W, C)
    judges = judged(s, x, [s["unit"][k] for k in rows])
    word = "digit" if s["net"] == "lenet" and judges else "unit"
    chains = []
    for place, k in enumerate(rows):
        unit, first = s["unit"][k], k * s["chains"]
        warm_up = s["iterations"] // 2 if s["adapt"] else 0
        score = short(records["record/score"][:, first])
        probability = np.round(records["record/probability"][:, first], 3).tolist()
        chains.append(
            {
                "net": NAMES.get(s["net"], Path(s["net"]).stem),
                "layer": s["layer"],
                "unit": s["class_names"].get(str(unit), f"{word} {unit}"),
                "reference": s["reference"],
                "sigma": s["sigma"],
                "temperature": s["temperature"],
                "start": s["start"],
                "warm_up": warm_up,
                "stages": stages,
                "size": x.shape[2:4],
                "row": place,
                "score": score,
                "probability": probability,
                **verdict(score, probability, warm_up),
                "judges": {name: short(p[place]) for name, p in judges.items()},
            }
        )
    return chains, tiled(shown(x))


def verdict(score: list, probability: list, warm_up: int) -> dict:
    """What this one chain has come to since its warm-up, or in its second half without one."""
    first = warm_up or len(probability) // 2
    acceptance = float(np.mean(probability[first:]))
    return {"acceptance": acceptance, "judgement": judgement(np.array([score[first + 1 :]]))}


NAMES = {"lenet": "LeNet", "alexnet-torchvision": "AlexNet"}


def judged(s: Settings, x: np.ndarray, units: list[int]) -> dict[str, np.ndarray]:
    """{net: p(y | x) of each unit's own class (units, stages)}, where the units are classes."""
    whole = asked_source(s).network
    if s["layer"] != whole.last or len(whole.shapes[whole.last]) > 1:
        return {}
    nets = {"this net": load_network(s)[0]}
    if s["net"] == "lenet":
        nets["another LeNet"] = open_network("lenet", ASSETS / "lenet-judge.npz")
    if x.shape[-1] == 3 and s["pixel_order"] == "bgr":
        x = x[..., ::-1]
    own = np.repeat(units, x.shape[1])
    found = {}
    for name, net in nets.items():
        scores = net.bottom_up(np.ascontiguousarray(x.reshape(-1, *x.shape[2:])))
        p = np.exp(log_softmax(scores.astype(float), axis=1))
        found[name] = p[np.arange(len(own)), own].reshape(x.shape[:2])
    return found


def learned(folder: Path, images: dict[str, bytes]) -> dict | None:
    """Section 4, of a run of train.py --mode samples, if there is one. Adds its image."""
    if not (folder / "model.npz").exists():
        return None
    arrays = load_npz(folder / "checkpoint.npz")
    x = arrays["further/pictures"]  # (moments, classes, H, W, C)
    images["samples.png"] = encoded(tiled(shown(x)))
    rows = list(csv.DictReader(io.StringIO(read_text(folder / "metrics.csv"))))
    file = folder / "settings.json"
    settings = parse_json(read_text(file), file)
    updates = json.loads(str(arrays["state"]))["it"]
    return {
        "updates": np.linspace(0, updates, len(x)).astype(int).tolist(),
        "size": x.shape[2:4],
        "net": settings["net"],
        "classes": x.shape[1],
        "error": float(rows[-1]["test_error_eq6"]),
        "acceptance": float(rows[-1]["acceptance"]),
    }


def short(values: np.ndarray) -> list[float]:
    """Numbers as the page shows them: 4 digits."""
    return [float(f"{v:.4g}") for v in values]


def shown(x: np.ndarray) -> np.ndarray:
    """Images of any range as uint8, each with the contrast of all pictures of this project."""
    from app.pictures.images import displayed  # matplotlib loads slowly

    return displayed(x)


def tiled(x: np.ndarray) -> np.ndarray:
    """uint8 (rows, columns, H, W, C) -> one image (rows H, columns W, C)."""
    R, K, H, W, C = x.shape
    return x.transpose(0, 2, 1, 3, 4).reshape(R * H, K * W, C)


def suffix(sprite: np.ndarray) -> str:
    """Grey ones are kept exactly; colours, mostly noise, as a photograph is."""
    return ".png" if sprite.shape[-1] == 1 else ".webp"


def encoded(sprite: np.ndarray) -> bytes:
    """A sprite as a file."""
    file = io.BytesIO()
    if sprite.shape[-1] == 1:
        Image.fromarray(sprite[..., 0]).save(file, "png", optimize=True)
    else:
        Image.fromarray(sprite).save(file, "webp", quality=75, method=6)
    return file.getvalue()
