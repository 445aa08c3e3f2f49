"""docs/explore.html: what it is made of, its formulas, and every control in a real browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from app.data.load import load
from app.formats.net import open_network
from app.page.page import DOCS, HERE, LARGEST, as_json, build, kept, verdict
from app.paper.teaching import batch_shown
from hmc.forecast import forecast, leapfrog_angle
from hmc.leapfrog import leapfrog
from losses.discriminative import discriminative_loss
from losses.generative import generative_loss
from tests import scripts
from tests.scripts import ROOT

PAGE = DOCS / "explore.html"
NUMBERS, IMAGES = kept()
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
in_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
by_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="there is no node to run formulas.js"
)


def test_the_page_is_what_its_parts_give():
    content = build(NUMBERS, IMAGES)
    assert PAGE.read_bytes() == content
    assert len(content) <= LARGEST
    assert json.loads(as_json(NUMBERS)) == NUMBERS


def test_the_page_needs_nothing_from_elsewhere():
    text = re.sub(r"data:image/[a-z]+;base64,[\w+/=]+", "", PAGE.read_text())
    assert not re.findall(r"https?:|(?:src|href)=\"(?!#)|@import|url\((?!\$)|fetch\(", text)
    assert "default-src 'none'" in text


def test_the_batch_is_mnist_and_its_first_scores_are_those_of_the_net():
    images, labels = batch_shown(load()[1])
    assert NUMBERS["batch"]["labels"] == labels.tolist()
    with Image.open(DOCS / "images" / "page" / "batch.png") as picture:
        tiles = np.asarray(picture).reshape(8, 28, 8, 28).swapaxes(1, 2).reshape(64, 28, 28)
    np.testing.assert_array_equal(tiles / 256, images[..., 0])
    first = open_network("lenet").bottom_up(images)
    np.testing.assert_allclose(NUMBERS["batch"]["scores"][0], first, atol=2e-4)


@pytest.mark.parametrize(
    "chain", NUMBERS["chains"], ids=lambda c: f"{c['layer']}-{c['unit']}-{c['reference']}"
)
def test_what_is_said_of_a_chain_follows_from_its_records(chain):
    said = verdict(chain["score"], chain["probability"], chain["warm_up"])
    assert said["judgement"] == chain["judgement"]
    assert said["acceptance"] == pytest.approx(chain["acceptance"])
    assert len(chain["score"]) == chain["stages"][-1] + 1 == len(chain["probability"]) + 1
    with Image.open(DOCS / "images" / "page" / chain["image"]) as picture:
        H, W = chain["size"]
        assert picture.width == W * len(chain["stages"])
        assert picture.height >= H * (chain["row"] + 1)


def table_of(figure):
    """{(reference, layer, number of the unit): (acceptance, score, judgement)} as it is printed."""
    found = {}
    for line in (DOCS / "numbers" / f"{figure}.md").read_text().splitlines():
        if re.match(r"\| \w+-\w+ \|", line):
            run, node, _, acceptance, _, score, _, said = line.strip("| ").split(" | ")
            found[(run.partition("-")[2], *node.split())] = acceptance, score, said
    return found


def test_the_page_says_what_the_tables_of_the_figures_say():
    tables, seen = {name: table_of(name) for name in ("figure3", "figure5")}, 0
    for chain in NUMBERS["chains"]:
        figure, unit = chain["image"].partition("-")[0], chain["unit"].split()[-1]
        row = tables.get(figure, {}).get((chain["reference"], chain["layer"], unit))
        if row:
            late = chain["score"][(chain["warm_up"] or len(chain["probability"]) // 2) + 1 :]
            numbers = f"{chain['acceptance']:.2f}", f"{np.mean(late):.4g}", chain["judgement"]
            assert row == numbers, chain["image"]
            seen += 1
    assert seen == 30  # of figure 3 all but the natural ones, of figure 5 ten
    lines = (DOCS / "numbers" / "judge-samples.md").read_text().splitlines()
    (judged,) = (line for line in lines if line.startswith("| first command, seed 0 |"))
    assert judged.endswith(f"| {NUMBERS['learned']['error']:.2f} % |")


def test_the_text_is_true_of_the_numbers():
    """Section 3: both nets are sure of every digit at the end. Section 1: ESS falls, and a 3 has
    more weight for class 8 than the 8."""
    last = [p[-1] for c in NUMBERS["chains"] if c["net"] == "LeNet" for p in c["judges"].values()]
    assert len(last) == 60
    assert min(last) > 0.95
    scores, labels = (np.array(NUMBERS["batch"][name]) for name in ("scores", "labels"))
    ess = np.array([generative_loss(F, labels)[2]["ess"] for F in scores])
    assert (ess[0] > 55).all()
    assert np.abs(ess[-1] - np.bincount(labels)).mean() < 1.5
    assert np.bincount(labels)[8] == 1
    assert labels[scores[-1][:, 8].argmax()] == 3


PROBE = """
const problems = [];
window.onerror = (message) => problems.push(String(message));
console.error = (...words) => problems.push(words.join(" "));
"""
CHECKS = (ROOT / "tests" / "page_checks.js").read_text()


def by_formulas(expression):
    """What formulas.js gives, where D is the page's data."""
    script = (
        f"const F = require({json.dumps(str(HERE / 'formulas.js'))});"
        f"const D = require({json.dumps(str(DOCS / 'numbers' / 'page.json'))});"
        f"console.log(JSON.stringify({expression}))"
    )
    found = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


@by_node
def test_the_two_softmaxes_are_those_of_the_losses():
    found = by_formulas("D.batch.scores.map((s) => F.twoSoftmaxes(s, D.batch.labels))")
    labels = np.array(NUMBERS["batch"]["labels"])
    for scores, ours in zip(NUMBERS["batch"]["scores"], found, strict=True):
        scores = np.array(scores)
        _, dg, row = discriminative_loss(scores, labels)
        _, gg, column = generative_loss(scores, labels)
        right = {"P": row["posterior"], "W": column["weights"], "ess": column["ess"]}
        right |= {"dg": -len(labels) * dg, "gg": -len(labels) * gg}
        for name, expected in right.items():
            np.testing.assert_allclose(ours[name], expected, rtol=1e-9, atol=1e-12)


@by_node
@pytest.mark.parametrize("kind", ["bowl", "slope", "filters"])
def test_the_leapfrog_is_that_of_hmc(kind):
    eps, steps, mass, T = 0.3, 7, 2.0, 0.5
    z, phi = [0.4, -1.1], [0.3, 0.9]
    found = by_formulas(
        f"F.leapfrog(F.tempered(F.energies.{kind}, {T}), {z}, {phi}, {eps}, {steps}, {mass})"
    )
    w = np.array(by_formulas("F.filters"))

    def energy(x):
        scores = {"bowl": x * 0, "slope": x @ np.array([[2.0], [1.0]]), "filters": x @ w.T}[kind]
        slopes = {"bowl": np.zeros((2, 2)), "slope": np.array([[2.0, 1.0]]), "filters": w}[kind]
        best = scores.argmax(axis=1)
        return ((x**2).sum(axis=1) / 2 - scores.max(axis=1)) / T, (x - slopes[best]) / T

    x, momentum = np.array([z]), np.array([phi])
    before = energy(x)[0] + (momentum**2).sum() / (2 * mass)
    value, _ = leapfrog(energy, x, momentum, energy(x)[1], eps, steps, mass)
    after = value + (momentum**2).sum() / (2 * mass)
    np.testing.assert_allclose(found["path"][-1], x[0], rtol=1e-10)
    np.testing.assert_allclose(found["phi"], momentum[0], rtol=1e-10)
    np.testing.assert_allclose(found["energy"][-1] - found["energy"][0], after - before, atol=1e-10)


@by_node
def test_the_forecast_is_that_of_hmc_and_comes_true_in_the_bowl():
    eps, L, m, T = 0.2, 6, 1.0, 1.0
    told = by_formulas(f"F.forecast({{eps: {eps}, L: {L}, m: {m}, T: {T}}})")
    ours = forecast(1, eps, L, m, T)
    assert told["theta"] == pytest.approx(ours.theta)
    assert told["turned"] == pytest.approx(L * leapfrog_angle(eps))
    assert abs(told["remains"]) == pytest.approx(ours.remains)
    seeds = by_formulas(
        "[1, 2, 3, 4, 5, 6, 7, 8].map((seed) => F.correlation(F.chain("
        f"{{energy: 'bowl', eps: {eps}, L: {L}, m: {m}, T: {T}, seed}}, 300), [0, 0]))"
    )
    error = np.std(seeds, ddof=1) / np.sqrt(len(seeds))
    assert abs(np.mean(seeds) - told["remains"]) < 5 * error


def looked_at(path, width, address=""):
    """The page as a browser leaves it, from a file."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=6000"]
    command += [f"--window-size={width},900", f"--user-data-dir={path.parent / 'profile'}"]
    command += ["--dump-dom", f"{path.as_uri()}{address}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def report_of(tmp_path, width, address=""):
    text = PAGE.read_text()
    text = text.replace("<body>", f"<body><script>{PROBE}</script>")
    text = text.replace("</body>", f"<script>{CHECKS}</script></body>")
    path = tmp_path / "explore.html"
    path.write_text(text)
    found = re.search(r'<pre id="report">(.*?)</pre>', looked_at(path, width, address), re.DOTALL)
    assert found, "the page did not come to its end"
    return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


@in_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_every_control_changes_what_it_should(tmp_path, width):
    report = report_of(tmp_path, width)
    assert report["problems"] == []
    assert [entry for entry in report["changes"] if not entry[2]] == []
    assert len(report["changes"]) > 50
    for part in ("along=rows", "what=change", "y=7", "eps=2.05", "reference=white", "node=12"):
        assert part in report["hash"]
    assert report["narrow"], "the page is wider than the window"


@in_browser
def test_the_address_brings_the_state_back(tmp_path):
    path = tmp_path / "explore.html"
    path.write_text(PAGE.read_text())
    text = looked_at(path, 900, "#along=rows&y=8&image=3&eps=1.5&T=nonsense&node=2&frame=1")
    plain = re.sub(r"<[^>]+>", "", text.split('id="data"')[0])
    for part in ("Image 4, a 0; class 8", "ε = 1.500", "temperature T = 1", "LeNet, fc2, digit 2"):
        assert part in plain


@pytest.mark.slow
def test_the_command_makes_a_page(tmp_path):
    result = scripts.run("reproduce.py", "page", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    made = tmp_path / "quick" / "page.html"
    numbers = json.loads((tmp_path / "quick" / "page.json").read_text())
    assert numbers["learned"] is None
    assert {c["net"] for c in numbers["chains"]} == {"LeNet", "AlexNet"}
    assert "data:image/webp;base64," in made.read_text()
    if BROWSER:
        text = looked_at(made, 900)
        assert 'id="learned"' not in text  # no run of train.py --mode samples
        assert "Effective sample size: mean" in text
