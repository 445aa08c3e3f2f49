"""Pictures: whatever display there is, of any number of channels, never at the cost of numbers."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from app.formats.net import open_network
from app.formats.npz import load_npz, save_npz
from app.pictures import attempt
from app.pictures.canvas import save_figure, sheet
from app.pictures.curves import error_plot, training_curves
from app.pictures.images import film, labelled, mosaic, panels, rows_of_groups, traces
from tests.scripts import ROOT, run

QUICK = ["--chains", 2, "--iterations", 12]
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


@pytest.mark.parametrize("failure", ["ImportError('none')", "MemoryError()", "KeyError('x')"])
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
    assert mosaic(rng.random((2, 3, 4, 5, 6)), zoom=2).shape == (2 * 20 + 2, 3 * 36 + 2, 3)
    assert mosaic(rng.random((1, 1, 28, 28, 1))).shape == (3 * 28 + 4, 3 * 28 + 4, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_every_picture_of_every_number_of_channels(tmp_path, channels):
    rng = np.random.default_rng(0)
    images = rng.random((2, 3, 9, 8, channels))
    odd = "$x_{ & \\udcff"
    attempt(
        lambda path: labelled(images, [odd, "b"], [odd, "", "c"], odd, path), tmp_path / "l.png"
    )
    rows_of_groups([images, images], ["a", odd], [["u", "v"]] * 2, tmp_path / "r.png")
    film([images, images + 1, images], tmp_path / "f.gif")
    for name in ("l.png", "r.png", "f.gif"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_a_film_stays_small(tmp_path):
    """Twenty-four images of ImageNet's size side by side are no film."""
    film(
        [np.random.default_rng(i).random((8, 8, 300, 200, 1)) for i in range(2)], tmp_path / "f.gif"
    )
    with Image.open(tmp_path / "f.gif") as picture:
        assert max(picture.size) < 1300
        assert picture.n_frames == 2


def test_a_large_picture_takes_little_memory(tmp_path):
    """matplotlib's imshow takes 85 bytes for each pixel of the file: 1.4 GB for this one."""
    code = """
import resource, sys
import numpy as np
from app.pictures.images import labelled

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
labelled(np.zeros((24, 24, 5, 5, 1)), [""] * 24, [""] * 24, "", sys.argv[1])
print(peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "p.png"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 150  # MiB; measured: 55


def test_names_with_dollars_are_no_formulas(tmp_path):
    rows = [
        {"epoch": e, "stage": "GG", "loss": 1, "ess": 0.5, "test_error": 2, "test_error_eq6": 1}
        for e in (1, 2)
    ]
    training_curves(rows, "net $a_{, GG", tmp_path / "c.png")
    error_plot({"$a_{": {"DG": [1.0, 2.0], "GG": [0.5]}}, {}, tmp_path / "e.png")
    numbers = np.random.default_rng(0).random((2, 3, 9))
    traces(numbers, numbers, numbers[..., 1:], [0, 1], 4, "$a_{", tmp_path / "t.png")
    for name in "cet":
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_an_attempt_that_fails_is_told(tmp_path, capsys):
    def fail(path):
        raise KeyError

    attempt(fail, tmp_path / "x.png")
    assert capsys.readouterr().err.endswith("x.png could not be drawn: KeyError\n")
    with pytest.raises(KeyboardInterrupt):
        attempt(lambda path: (_ for _ in ()).throw(KeyboardInterrupt), tmp_path / "x.png")
    attempt(lambda path: save_figure(sheet(1, 1), path, 50), tmp_path / "none" / "x.png")
    assert "none/x.png: No such file or directory" in capsys.readouterr().err
    attempt(lambda path: save_figure(sheet(1, 1), path, 50), tmp_path / "x.png")
    assert capsys.readouterr().err == ""
    assert (tmp_path / "x.png").exists()
