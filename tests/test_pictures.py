"""Pictures: whatever display there is, of any number of channels, never at the cost of numbers."""

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from app.formats.net import open_network
from app.formats.npz import load_npz, save_npz
from app.options.visualize import parse
from app.options.visualize_settings import complete
from app.pictures import attempt
from app.pictures.canvas import COLOURS, save_figure, sheet
from app.pictures.curves import training_curves
from app.pictures.errors import error_plot, errors_and_curves, label_plot
from app.pictures.heat_maps import heat_maps
from app.pictures.images import CONTRAST, Block, ImageTable, film, image_table, panels
from app.pictures.of_runs import reference_and_heat, unit_names
from app.pictures.traces import traces
from tests.scripts import ROOT, run

QUICK = ["--chains", 2, "--iterations", 12]
MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF-", "svg": b"<?xml"}
BORDERS = "#999999", "#b2b2b2"  # grey lines that divide a panel
PICTURES = {"grid.png", "sequence.png", "trace.png", "film.gif"}


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "settings",
    [
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"MPLBACKEND": "nonsense"},
        {"MATPLOTLIBRC": "rc"},
    ],
)
def test_a_users_settings_of_matplotlib(tmp_path, small_data, settings):
    (tmp_path / "rc").write_text("text.usetex: True\nbackend: TkAgg\n")
    environment = {**os.environ, **settings}
    result = run("visualize.py", *QUICK, "--film", "--out", "v", cwd=tmp_path, env=environment)
    assert result.returncode == 0
    assert "could not be drawn" not in result.stderr
    assert files(tmp_path / "v") >= PICTURES
    options = ["--data", small_data, "--epochs", 1, "--mode", "dg", "--out", "t"]
    result = run("train.py", *options, cwd=tmp_path, env=environment)
    assert result.returncode == 0
    assert files(tmp_path / "t") >= {"model.npz", "curves.png"}


@pytest.mark.parametrize(
    "failure",
    [
        "ImportError('none')",
        pytest.param("MemoryError()", marks=pytest.mark.slow),
        pytest.param("KeyError('x')", marks=pytest.mark.slow),
    ],
)
def test_numbers_are_kept_where_nothing_can_be_drawn(tmp_path, small_data, failure):
    """And what was not drawn is, once it can be, from the checkpoint."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "matplotlib.py").write_text(f"raise {failure}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "fake")}
    folder = tmp_path / "v"
    result = run("visualize.py", *QUICK, "--film", "--out", folder, env=environment)
    assert result.returncode == 0, result.stderr
    assert files(folder) >= {"samples.npz", "diagnostics.json"}
    assert not files(folder) & PICTURES
    for name in PICTURES:
        assert f"warning: {folder}/{name} could not be drawn: " in result.stderr
    numbers = {name: (folder / name).read_bytes() for name in ("samples.npz", "diagnostics.json")}
    result = run("visualize.py", "--resume", folder)
    assert result.returncode == 0
    assert files(folder) >= PICTURES
    assert numbers == {name: (folder / name).read_bytes() for name in numbers}
    assert "is finished" in run("visualize.py", "--resume", folder).stdout

    options = ["--data", small_data, "--epochs", 2, "--out", tmp_path / "t"]
    result = run("train.py", *options, env=environment)
    assert result.returncode == 0
    assert "curves.png could not be drawn: " in result.stderr
    weights = (tmp_path / "t" / "model.npz").read_bytes()
    assert run("train.py", "--resume", tmp_path / "t").returncode == 0
    assert files(tmp_path / "t") >= {"curves.png", "metrics.csv"}
    assert (tmp_path / "t" / "model.npz").read_bytes() == weights


def test_a_finished_run_without_checkpoint_is_not_begun_anew(tmp_path):
    """For the sake of a picture."""
    assert run("visualize.py", *QUICK, "--out", tmp_path / "v").returncode == 0
    for name in ("checkpoint.npz", "grid.png"):
        (tmp_path / "v" / name).unlink()
    assert "is finished" in run("visualize.py", "--resume", tmp_path / "v").stdout


def test_a_table_is_kept_where_nothing_can_be_drawn(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    options = ["figure4", "--quick", "--out", tmp_path / "r"]
    result = run("reproduce.py", *options, env=environment)
    assert result.returncode == 0, result.stderr
    assert "figure4.png could not be drawn: none" in result.stderr
    assert files(tmp_path / "r" / "quick") >= {"figure4.md", "figure4.json"}


@pytest.mark.parametrize("channels", [2, 4])
def test_nets_of_any_number_of_channels(tmp_path, channels):
    net = open_network("lenet", input_shape=(28, 28, channels))
    arrays = net.params() | {"input_shape": np.array([28, 28, channels])}
    save_npz(tmp_path / "m.npz", arrays)
    options = ["--weights", tmp_path / "m.npz", "--unit", "0,1", *QUICK, "--film"]
    folder = tmp_path / "v"
    result = run("visualize.py", *options, "--pixel-order", "bgr", "--out", folder)
    assert result.returncode == 0, result.stderr
    assert "could not be drawn" not in result.stderr
    assert f"{channels} channels, neither grey nor colour: pictures show a grey" in result.stdout
    assert load_npz(folder / "samples.npz")["samples"].shape == (2, 2, 28, 28, channels)
    assert files(folder) >= PICTURES


def test_panels():
    rng = np.random.default_rng(0)
    assert panels(rng.random((4, 5, 1))).shape == (4, 5, 1)
    assert panels(rng.random((4, 5, 3))).shape == (4, 5, 3)
    image = rng.random((4, 5, 6)) * [1, 10, 100, 1e3, 1e4, 1e5]
    shown = panels(image)
    assert shown.shape == (2 * 5 - 1, 3 * 6 - 1, 1)
    for c in range(6):  # row by row, each as a grey image of its own
        top, left = c // 3 * 5, c % 3 * 6
        panel = shown[top : top + 4, left : left + 5]
        np.testing.assert_array_equal(panel, panels(image[..., c : c + 1]))
    assert (shown[4] == 255).all()
    assert (shown[:, 5] == 255).all()
    assert panels(rng.random((4, 5, 2))).shape == (4, 11, 1)
    assert (panels(rng.random((4, 5, 5)))[5:, 12:] == 255).all()  # the sixth of five


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_every_picture_of_every_number_of_channels(tmp_path, channels):
    rng = np.random.default_rng(0)
    images = rng.random((2, 3, 9, 8, channels))
    odd = "$x_{ & \\udcff"
    blocks = [Block(list(images), [odd, "", "c"], title) for title in ("", odd)]
    image_table(blocks, [odd, "b"], odd, odd, tmp_path / "t.png")
    film({0: images, 5: images + 1, 12: images}, [odd, "b"], odd, tmp_path / "f.gif")
    for name in ("t.png", "f.gif"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_a_film_stays_small(tmp_path):
    """Twenty-four images of ImageNet's size side by side are no film."""
    rng = np.random.default_rng(0)
    frames = {i: rng.random((8, 8, 300, 200, 1)) for i in range(2)}
    film(frames, ["unit"] * 8, "a film", tmp_path / "f.gif")
    with Image.open(tmp_path / "f.gif") as picture:
        assert max(picture.size) < 1300
        assert picture.n_frames == 2


def test_a_large_picture_takes_little_memory(tmp_path):
    """matplotlib's imshow takes 85 bytes for each pixel of the file: 1.4 GB for this one."""
    code = """
import resource, sys
import numpy as np
from app.pictures.images import Block, image_table

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
block = Block(list(np.zeros((24, 24, 5, 5, 1))), [""] * 24)
image_table([block], [""] * 24, "", "", sys.argv[1])
print(peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "p.png"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 150  # MiB; measured: 55


LONG = "a net of a name as long as one likes " * 6
ODD = "$a_{, \\udcff"


def every_figure(folder, name=LONG, suffix="png"):
    """{what: the figure of matplotlib}, each written to the folder."""
    rng = np.random.default_rng(0)
    rows = [
        {"epoch": e, "stage": "GG" if e < 3 else "DG", "loss": 1 / e, "ess": 0.5, "test_error": 2}
        | {"test_error_eq6": 1 / e}
        for e in range(1, 6)
    ]
    labels = np.sort(rng.integers(0, 10, 64))
    numbers, units = rng.random((10, 10, 31)), [f"unit {u}" for u in range(10)]
    images = list(rng.random((3, 6, 28, 28, 1)))
    blocks = [Block(images, [str(100 + i) for i in range(6)], name) for _ in range(3)]
    errors = {"DG": [1.0, 2.0, 1.5], "GG": [0.5, 0.6, 0.7], "GG+DG": [0.5, 0.6, 0.4]}

    def at(what):
        return folder / f"{what}.{suffix}"

    return {
        "curves": training_curves(rows, name, at("curves")),
        "one stage": training_curves(rows[:2], name, at("one stage")),
        "errors": error_plot({name[:8]: errors}, {name[:8]: {"DG": 1.03}}, at("errors")),
        "errors and curves": errors_and_curves(
            {"GG+DG, queue": [25.0, 24.0], "joint": [23.0]},
            {
                kind: {"epoch": [1, 2, 3], "error": [60.0, 40.0, x], "ess": [0.9, 0.4, 0.2]}
                for kind, x in (("GG+DG, queue", 24.5), ("joint", 23.0))
            },
            name[:8],
            at("errors and curves"),
        ),
        "labels": label_plot({name[:30]: {100: [3.0, 2.0], 1000: [1.0, 2.0]}}, at("labels")),
        "heat": heat_maps(
            {"F\nof three": rng.random((64, 10)) - 0.5, "W": rng.random((64, 10))},
            labels,
            name,
            at("heat"),
        ),
        "traces": traces(numbers, numbers, numbers[..., 1:], units, 9, name, at("traces")),
        "ascent": traces(numbers, numbers, None, units[:1], 0, name, at("ascent")),
        "table": image_table(blocks, [*units[:2], name], "chain", name, at("table")),
        "one image": image_table(
            [Block([images[0][:1]], ["1"])], units[:1], "chain", name, at("one image")
        ),
        "many": image_table(
            [Block(list(rng.random((24, 24, 5, 5, 3))), [str(k) for k in range(24)])],
            [f"unit {u}" for u in range(24)],
            "chain",
            name,
            at("many"),
        ),
    }


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    return every_figure(tmp_path_factory.mktemp("figures"))


def texts(figure):
    """What is written in a figure."""
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]


def test_text_can_be_read_where_it_is_printed(figures):
    """Nine points, in a picture that fits a page of A4: nobody has to shrink it."""
    for name, figure in figures.items():
        width, height = figure.get_size_inches()
        assert width <= 7.001, name
        assert height <= 11, name
        assert min(text.get_fontsize() for text in texts(figure)) >= 9, name


def test_nothing_is_cut(figures):
    for name, figure in figures.items():
        box = figure.get_tightbbox(figure.canvas.get_renderer())  # inches
        width, height = figure.get_size_inches()
        assert box.x0 > -0.01, (name, box)
        assert box.y0 > -0.01, name
        assert box.x1 < width + 0.01, name
        assert box.y1 < height + 0.01, name


def test_headings_lie_over_nothing(figures):
    """A long one has room of its own, above the titles, the labels and the images."""
    for name, figure in figures.items():
        renderer, others = figure.canvas.get_renderer(), []
        heading = figure._suptitle
        for axis in figure.axes:
            others += [axis.title, *axis.texts]
        if heading is None and not figure.get_layout_engine():
            heading = others.pop(1)
        bottom = heading.get_window_extent(renderer).y0
        for text in others:
            if text.get_text():
                box = text.get_window_extent(renderer)
                assert box.y1 <= bottom + 1, (name, text.get_text())
        for axis in figure.axes:
            for image in axis.images:
                assert image.get_window_extent(renderer).y1 <= bottom + 1, name


def test_colours_that_everybody_tells_apart(figures):
    """At most ten lines in a panel; no two of them alike; no rainbow; one scale in a panel."""
    for name, figure in figures.items():
        for axis in figure.axes:
            twins = axis.get_shared_x_axes().get_siblings(axis)
            places = [tuple(np.round(twin.get_position().bounds, 6)) for twin in twins]
            assert len(set(places)) == len(places), f"{name} has two scales in a panel"
            drawn = [line for line in axis.lines if line.get_linestyle() != "None"]
            drawn = [
                line for line in drawn if to_hex(line.get_color()) not in ("#999999", "#b2b2b2")
            ]
            assert len(drawn) <= 10, name
            styles = [(to_hex(line.get_color()), line.get_linestyle()) for line in drawn]
            assert len(set(styles)) == len(styles), name
            for image in axis.images:
                assert image.get_array().ndim == 3 or image.get_cmap().name in ("RdBu_r", "Greys")
            colours = {to_hex(line.get_color()) for line in axis.lines}
            assert colours <= {c.lower() for c in COLOURS} | {*BORDERS}, name


def test_what_a_picture_has_to_say(figures):
    def said(name):
        return " ".join(t.get_text() for t in texts(figures[name])).replace("\n", " ")

    assert CONTRAST in said("table")
    assert "chain" in said("table")
    assert "n = 3 seeds" in said("errors")
    assert "n = 2 seeds" in said("labels")
    assert "acceptance" in said("traces")
    assert "acceptance" not in said("ascent")
    assert len(figures["ascent"].axes) == 2
    assert "warm-up" in said("traces")
    assert {"GG loss on training images", "DG loss on training images"} <= {
        axis.get_title() for axis in figures["curves"].axes
    }


@pytest.mark.parametrize(("suffix", "magic"), MAGIC.items())
def test_every_format(tmp_path, suffix, magic):
    every_figure(tmp_path, ODD, suffix)
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(magic)


def test_a_film_counts_its_iterations(tmp_path):
    """The frames of a chain that stands still differ by the counter alone."""
    images = np.random.default_rng(0).random((1, 2, 9, 9, 1))
    film({0: images, 7: images, 120: images}, ["unit 0"], "a film", tmp_path / "f.gif")
    with Image.open(tmp_path / "f.gif") as picture:
        frames = []
        for i in range(picture.n_frames):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("L"), float))
    assert len(frames) == 3
    table = ImageTable(
        [Block(list(images), ["1", "2"])], ["unit 0"], "chain", f"a film\n{CONTRAST}\niteration"
    )
    first = round(100 * min(top for _, top, _, _ in table.places))
    for a, b in zip(frames, frames[1:], strict=False):
        rows = np.flatnonzero((a != b).any(axis=1))
        assert len(rows)
        assert rows.max() < first


@pytest.mark.parametrize("script", ["visualize.py", "train.py", "reproduce.py"])
def test_the_scripts_write_the_format_asked_for(tmp_path, small_data, script):
    out = tmp_path / "o"
    options = {
        "visualize.py": [*QUICK, "--film"],
        "train.py": ["--data", small_data, "--epochs", 1],
        "reproduce.py": ["figure3", "--quick"],
    }[script]
    result = run(script, *options, "--format", "pdf", "--out", out)
    assert result.returncode == 0, result.stderr
    found = {path.name for path in out.rglob("*.pdf")}
    expected = {
        "visualize.py": {"grid.pdf", "sequence.pdf", "trace.pdf"},
        "train.py": {"curves.pdf"},
        "reproduce.py": {"figure3.pdf"},
    }[script]
    assert found == expected
    for path in out.rglob("*.pdf"):
        assert path.read_bytes().startswith(MAGIC["pdf"])
    assert (script == "visualize.py") == (out / "film.gif").exists()
    if script != "reproduce.py":
        assert "is finished" in run(script, "--resume", out).stdout


def test_headings_name_the_reference_and_the_temperature():
    s = complete(parse(["--unit", "3,5", "--reference", "white"]))
    assert reference_and_heat(s) == "reference q: white, sigma = 2, T = 0.01"
    assert unit_names(s) == ["unit 3", "unit 5"]
    assert reference_and_heat(complete({})) == "reference q: data, sigma = 1, T = 1"
    s = complete(parse(["--sampler", "ascent"]))
    assert reference_and_heat(s) == "reference q: data, sigma = 1, T = 0"


def test_an_attempt_that_fails_is_told(tmp_path, capsys):
    def fail(path):
        raise KeyError

    attempt(fail, tmp_path / "x.png")
    assert capsys.readouterr().err.endswith("x.png could not be drawn: KeyError\n")
    with pytest.raises(KeyboardInterrupt):
        attempt(lambda path: (_ for _ in ()).throw(KeyboardInterrupt), tmp_path / "x.png")
    attempt(lambda path: save_figure(sheet(1, 1), path), tmp_path / "none" / "x.png")
    assert "none/x.png: No such file or directory" in capsys.readouterr().err
    attempt(lambda path: save_figure(sheet(1, 1), path), tmp_path / "x.png")
    assert capsys.readouterr().err == ""
    assert (tmp_path / "x.png").exists()
