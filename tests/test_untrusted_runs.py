"""Files of a run that were edited: held to what the command line and the run itself allow."""

import copy
import json
import os

import numpy as np
import pytest

from app.formats.npz import load_npz, save_npz
from app.options import train, train_settings, visualize, visualize_settings
from app.runs.folder import RunFolder, write_json
from app.runs.node import NodeChains, load_network
from app.runs.resume import restore_training, training_state
from tests import scripts
from tests.scripts import assert_one_line
from tests.test_training import small_images, small_training  # noqa: F401  a fixture
from train import run_epoch

NONSENSE = [None, True, False, -1, 0, 3, 2.5, float("inf"), float("nan"), 10**30, "", "x", "--lr=9"]
NONSENSE += [[], [1], ["x"], {}, {"a": 1}, [[[]]]]
NESTED = 50_000 * '{"a":'
PROGRAMS = {"train": (train, train_settings), "visualize": (visualize, visualize_settings)}


@pytest.mark.parametrize("contents", ["", "{", "[]", "3", "null", "{}", NESTED, b"\xff\xfe", "NaN"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_settings_that_are_none(tmp_path, contents, program):
    contents = contents if isinstance(contents, bytes) else contents.encode()
    (tmp_path / "settings.json").write_bytes(contents)
    with pytest.raises(ValueError, match="settings.json"):
        RunFolder(tmp_path).read_settings(PROGRAMS[program][0].checked)


def test_settings_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "settings.json")
    with pytest.raises(ValueError, match="settings.json is no regular file"):
        RunFolder(tmp_path).read_settings(train.checked)
    (tmp_path / "settings.json").unlink()
    (tmp_path / "settings.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="settings.json is no regular file"):
        RunFolder(tmp_path).read_settings(train.checked)


@pytest.mark.parametrize(
    ("program", "given"),
    [
        ("train", {}),
        ("train", {"mode": "dg"}),
        ("train", {"epochs": 1}),
        ("train", {"labels": 100, "epochs": 25, "unlabeled_weight": 0.5}),
        ("train", {"net": "alexnet", "pixel_mean": [1.0, 2.0, 3.0], "skip_broken": True}),
        ("train", {"lr_policy": "step", "lr_step": 7, "switch_ess": 0.2, "limit": 50}),
        ("train", {"filler": "xavier-caffe2014", "data": "/some/where"}),
        ("train", {"mode": "joint", "gg_weight": 0.3, "gg_queue": 50, "held_out": 9}),
        ("visualize", {}),
        ("visualize", {"sampler": "ascent", "unit": [1, 7], "film": True}),
        ("visualize", {"sampler": "langevin", "layer": "conv1"}),
        ("visualize", {"preset": "paper", "layer": "conv2", "position": [3, 4]}),
        ("visualize", {"step_size": 0.3, "precision": "float64"}),
        ("visualize", {"net": "alexnet-torchvision", "layer": "conv2", "heat": 3.0}),
    ],
)
def test_settings_of_our_own_are_taken_as_they_are(program, given):
    options, settings = PROGRAMS[program]
    asked = settings.complete(given)
    assert options.checked(json.loads(json.dumps(asked))) == asked


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_setting_edited(program):
    """Refused in a line, or what the command line would have taken."""
    options, settings = PROGRAMS[program]
    whole = settings.complete({})
    refused = 0
    for name in whole:
        for value in NONSENSE:
            try:
                found = options.checked({**whole, name: copy.deepcopy(value)})
            except ValueError:
                refused += 1
                continue
            assert found[name] == value
            assert type(found[name]) in (type(value), type(whole[name]))
    assert refused > 0.8 * len(whole) * len(NONSENSE)
    for changed in ({n: v for n, v in whole.items() if n != "seed"}, {**whole, "other": 1}):
        with pytest.raises(ValueError, match="another program"):
            options.checked(changed)


@pytest.mark.parametrize(
    ("program", "edit", "problem"),
    [
        ("train", {"mode": "foo"}, "--mode"),
        ("train", {"switch_epoch": None}, "switch_epoch"),
        ("train", {"switch_epoch": 25}, "leaves none for dg"),
        ("train", {"mode": "dg"}, "--switch-epoch goes with --mode ggdg"),
        ("train", {"net": "vgg"}, "'vgg' is neither"),
        ("train", {"unlabeled_weight": 0.7}, "goes with --labels only"),
        ("visualize", {"layer": "conv9"}, "no layer 'conv9'"),
        ("visualize", {"unit": [3, 3]}, "named twice"),
        ("visualize", {"unit": ["starfish"]}, "class_names"),
        ("visualize", {"class_names": {"3": "nothing"}}, "nothing"),
        ("visualize", {"size": [9, 9]}, "--size is for .onnx files"),
        ("visualize", {"adapt": "yes"}, "adapt"),
        ("visualize", {"step_size": None}, "--step-size"),
        ("visualize", {"sampler": "ascent", "leapfrog_steps": 1}, "temperature"),
        ("visualize", {"sampler": "langevin"}, "--leapfrog-steps does not go with"),
        ("visualize", {"temperature": 0.0}, "--temperature"),
        ("visualize", {"weights": "/no/such.npz"}, "/no/such.npz"),
    ],
)
def test_settings_that_do_not_go_together(program, edit, problem):
    options, settings = PROGRAMS[program]
    with pytest.raises((ValueError, OSError), match=problem):
        options.checked({**settings.complete({}), **edit})


def edits(state):
    """Copies of a JSON object with one place in it changed, as far down as it goes."""
    for key in state if isinstance(state, dict) else range(len(state)):
        for value in NONSENSE:
            edited = copy.deepcopy(state)
            edited[key] = value
            yield edited
        if isinstance(state[key], dict | list):
            for inner in edits(state[key]):
                yield (
                    {**state, key: inner}
                    if isinstance(state, dict)
                    else [*state[:key], inner, *state[key + 1 :]]
                )
    if isinstance(state, dict):
        for key in state:
            yield {k: v for k, v in state.items() if k != key}
        yield {**state, "other": 1}


def broken_arrays(arrays):
    """The arrays with one of them changed."""
    for name, array in arrays.items():
        array = np.asarray(array)
        yield {n: a for n, a in arrays.items() if n != name}
        yield {**arrays, name: np.concatenate([array.ravel(), array.ravel()])[None]}
        yield {**arrays, name: array.astype(str)}
        yield {**arrays, name: array.astype(np.complex64)}
        yield {**arrays, name: np.zeros(0)}
    yield {**arrays, "other": np.zeros(3)}


def goes_on(folder, fresh, restore, arrays, state):
    """A fresh run that took a checkpoint; None if it ended in a ValueError that names the file."""
    folder.save_checkpoint(arrays, state)
    try:
        folder.load_checkpoint(lambda *saved: restore(fresh, *saved))
        return fresh
    except ValueError as error:
        problem = str(error)
    assert "checkpoint.npz is not" in problem  # of this run, or a sound file
    assert "remove it to begin this run anew" in problem
    return None


def test_every_number_of_a_trainings_checkpoint_edited(tmp_path, small_images):  # noqa: F811
    def fresh():
        return small_training(small_images, epochs=3, switch_epoch=1, threads=1)

    def go_on(arrays, state):
        return goes_on(folder, fresh(), restore_training, arrays, state)

    training, folder = fresh(), RunFolder(tmp_path / "run")
    folder.create({})
    run_epoch(training, folder, [])
    run_epoch(training, folder, ["a signal"])
    arrays, state = training_state(training)
    arrays = {name: np.array(array) for name, array in arrays.items()}
    taken = tried = 0
    for edited in edits(json.loads(json.dumps(state))):
        tried += 1
        restored = go_on(arrays, edited)
        if restored is not None:
            taken += 1
            run_epoch(restored, RunFolder(tmp_path / "unused"), [])
    assert tried > 500
    assert taken < 0.35 * tried
    for edited in broken_arrays(arrays):
        assert go_on(edited, state) is None
    for name in arrays:
        for value in (np.nan, np.inf):
            edited = {**arrays, name: np.full_like(arrays[name], value)}
            assert go_on(edited, state) is None
    assert go_on(arrays, state).epoch == 2
    os.close(folder.lock)


@pytest.mark.parametrize("sampler", ["hmc", "ascent"])
def test_every_number_of_a_chains_checkpoint_edited(tmp_path, sampler):
    given = {"unit": [0, 1], "chains": 2, "iterations": 12, "reference": "white"}
    settings = visualize_settings.complete(
        {**given, "sampler": sampler, "start": "noise", "threads": 1, "film": True}
    )

    def fresh():
        return NodeChains(settings, *load_network(settings), np)

    def go_on(arrays, state):
        return goes_on(folder, fresh(), NodeChains.restore, arrays, state)

    chains, folder = fresh(), RunFolder(tmp_path / "run")
    folder.create(settings)
    for _ in range(8):
        chains.step()
    arrays, state = chains.checkpoint()
    arrays = {name: np.array(array) for name, array in arrays.items()}
    taken = tried = 0
    for edited in edits(json.loads(json.dumps(state))):
        tried += 1
        restored = go_on(arrays, edited)
        if restored is not None:
            taken += 1
            restored.step()
    assert tried > 100
    assert taken < 0.35 * tried
    for edited in broken_arrays(arrays):
        assert go_on(edited, state) is None
    for name in ("x", "value", "step_size", "temperature", "record/score", "record/probability"):
        edited = {**arrays, name: np.full_like(arrays[name], np.nan)}
        assert go_on(edited, state) is None
    for steps in (0, -1, 10**9):
        assert go_on({**arrays, "steps": np.array(steps)}, state) is None
    assert go_on(arrays, state).iteration == 8
    os.close(folder.lock)


def test_edited_runs_as_a_user_meets_them(tmp_path, small_data):
    """Refused before anything is computed."""
    folder = tmp_path / "run"
    options = ["--data", small_data, "--epochs", 2, "--out", folder]
    assert scripts.run("train.py", *options).returncode == 0
    (folder / "model.npz").unlink()
    good = json.loads((folder / "settings.json").read_text())
    for edit, problem in [({"mode": "foo"}, "foo"), ({"lr": "fast"}, "fast"), ({"seed": -1}, "-1")]:
        write_json(folder / "settings.json", good | edit)
        result = scripts.run("train.py", "--resume", folder)
        assert_one_line(result, 2, f"{folder}/settings.json: ", problem)
    (folder / "settings.json").write_text(NESTED)
    assert_one_line(
        scripts.run("train.py", "--resume", folder), 2, "settings.json is not sound JSON"
    )
    write_json(folder / "settings.json", good)
    arrays = load_npz(folder / "checkpoint.npz")
    for text in (NESTED, "[]", "null", json.dumps({"settings": good})):
        save_npz(folder / "checkpoint.npz", {**arrays, "state": np.array(text)})
        result = scripts.run("train.py", "--resume", folder)
        assert_one_line(result, 2, "checkpoint.npz is not of this run", "remove it to begin")
