"""The folder of a training run: nothing in it is lost, broken, or another run's."""

import os
import resource
import signal
import subprocess
import time

import numpy as np
import pytest

from app.formats.npz import load_npz, save_npz
from app.options import train
from app.runs.folder import RunFolder, free_folder
from tests import scripts
from tests.scripts import assert_one_line, command, same_weights


def run(*options, **how):
    return scripts.run("train.py", *options, **how)


def test_the_last_good_checkpoint_survives_a_full_disk(tmp_path, small_data):
    options = ["--data", small_data, "--epochs", 4, "--threads", 1]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command("train.py", *options, "--out", folder), stderr=subprocess.PIPE
    )
    while not (folder / "checkpoint.npz").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()

    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    before = (folder / "checkpoint.npz").read_bytes()
    result = run("--resume", folder, preexec_fn=no_large_files)
    assert_one_line(result, 1, "File too large", "last good checkpoint is")
    assert (folder / "checkpoint.npz").read_bytes() == before
    assert run("--resume", folder).returncode == 0
    same_weights(tmp_path / "whole", folder)


def test_a_full_disk_at_the_start(tmp_path, small_data):
    def no_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    result = run("--data", small_data, "--out", tmp_path / "run", preexec_fn=no_files)
    assert_one_line(result, 2, "File too large")


def test_a_failed_start_leaves_nothing_behind(tmp_path):
    """A command with a mistake in it can be given again, corrected, with the same --out."""
    folder = tmp_path / "run"
    assert run("--data", "/no/such/folder", "--out", folder).returncode == 2
    assert not folder.exists()


def test_resume_refuses_other_settings_and_broken_files(tmp_path, small_data):
    folder = tmp_path / "run"
    options = ["--data", small_data, "--epochs", 2, "--out", folder]
    assert run(*options).returncode == 0
    (folder / "model.npz").unlink()
    result = run("--resume", folder, "--lr", "0.02")
    assert_one_line(result, 2, "lr 0.01", "0.02", "keeps its settings")
    good = (folder / "checkpoint.npz").read_bytes()
    (folder / "checkpoint.npz").write_bytes(good[: len(good) // 2])
    assert_one_line(run("--resume", folder), 2, "checkpoint.npz is not a sound .npz file")
    with open(folder / "checkpoint.npz", "wb") as file:
        np.savez(file, state="{}")
    assert_one_line(run("--resume", folder), 2, "checkpoint.npz is not of this run")
    (folder / "checkpoint.npz").write_bytes(good)
    (folder / "settings.json").write_text("{")
    assert_one_line(run("--resume", folder), 2, "settings.json is not sound JSON")


def test_broken_weights_are_never_kept(tmp_path, small_data):
    """The last step of an epoch can break them after its loss was finite."""
    result = run(
        "--data",
        small_data,
        "--mode",
        "dg",
        "--lr",
        "1e17",
        "--epochs",
        1,
        "--batch-size",
        96,
        "--out",
        tmp_path / "run",
    )
    assert_one_line(result, 1, "not finite after iteration 1 of DG in epoch 1")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"settings.json", ".lock"}


def test_a_run_killed_between_its_last_files_is_completed(tmp_path, small_data):
    folder = tmp_path / "run"
    assert run("--data", small_data, "--epochs", 2, "--out", folder).returncode == 0
    kept = {name: (folder / name).read_bytes() for name in ("model.npz", "metrics.csv")}
    for name in kept:
        (folder / name).unlink()
    (folder / ".writing-abc").write_bytes(b"half a file")
    assert run("--resume", folder).returncode == 0
    assert kept == {name: (folder / name).read_bytes() for name in kept}
    assert not (folder / ".writing-abc").exists()


def test_folders_and_checkpoints_of_other_runs(tmp_path, small_data):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, seed in ((ours, 0), (theirs, 1)):
        options = ["--data", small_data, "--epochs", 2, "--seed", seed]
        assert run(*options, "--out", folder).returncode == 0
        (folder / "model.npz").unlink()
    (ours / "checkpoint.npz").write_bytes((theirs / "checkpoint.npz").read_bytes())
    assert_one_line(run("--resume", ours), 2, "checkpoint.npz is not of this run", "other settings")
    assert_one_line(run("--resume", ours, "--out", theirs), 2, "name two folders")
    result = scripts.run("visualize.py", "--resume", theirs)
    assert_one_line(result, 2, "holds the settings of another program")
    for text in ("[]", "3", "{}"):
        (ours / "settings.json").write_text(text)
        assert_one_line(run("--resume", ours), 2, "holds the settings of another program")


def test_one_process_at_a_time(tmp_path, small_data):
    options = ["--data", small_data, "--epochs", 1000, "--mode", "dg", "--out", tmp_path / "run"]
    process = subprocess.Popen(command("train.py", *options), stderr=subprocess.PIPE)
    while not (tmp_path / "run" / "checkpoint.npz").exists():
        time.sleep(0.01)
    assert_one_line(run("--resume", tmp_path / "run"), 2, "another process is at work in")
    for _ in range(3):  # an impatient Ctrl-C
        process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in error


def test_default_folder_is_new_each_time(tmp_path, small_data):
    options = ["--data", small_data, "--epochs", 2]
    for _ in range(2):
        assert run(*options, cwd=tmp_path).returncode == 0
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {"lenet-ggdg-seed0", "lenet-ggdg-seed0-2"}


def test_the_lock_is_taken_before_the_folder_is_looked_at(tmp_path):
    """Both have seen an empty folder; then one begins its run, then the other."""
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    for run_ in (first, second):
        run_.check_free()
    first.create({"seed": 1})
    lock = (tmp_path / "run" / ".lock").stat().st_ino
    with pytest.raises(ValueError, match="another process is at work in .*run"):
        second.create({"seed": 2})
    os.close(first.lock)
    with pytest.raises(ValueError, match="already holds a run: go on with --resume"):
        second.create({"seed": 2})
    os.close(second.lock)
    assert first.read_settings(lambda settings: settings) == {"seed": 1}
    assert (tmp_path / "run" / ".lock").stat().st_ino == lock


def test_runs_that_begin_together_in_one_folder(tmp_path, small_data):
    options = ["--data", small_data, "--mode", "dg", "--epochs", 30, "--out", tmp_path / "run"]
    both = [
        subprocess.Popen(
            command("train.py", *options, "--seed", seed), stderr=subprocess.PIPE, text=True
        )
        for seed in (0, 1)
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    statuses = [process.returncode for process in both]
    assert sorted(statuses) == [0, 2]
    told = errors[statuses.index(2)]
    assert "another process is at work" in told or "already holds a run" in told
    seed = statuses.index(0)
    assert train.checked(RunFolder(tmp_path / "run").read_settings(dict))["seed"] == seed
    state = str(load_npz(tmp_path / "run" / "checkpoint.npz")["state"])
    assert f'"seed": {seed},' in state


def test_a_folder_with_nothing_but_a_lock_is_free(tmp_path, small_data):
    """A start that failed, or was killed, is tried again with the same --out."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").write_bytes(b"")
    assert run("--data", small_data, "--epochs", 1, "--mode", "gg", "--out", folder).returncode == 0


def test_no_checkpoint_is_named_where_there_is_none(tmp_path, small_data):
    """After all epochs, on a disk that is full from the first checkpoint on."""

    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    options = ["--data", small_data, "--mode", "dg", "--epochs", 1, "--out", tmp_path / "run"]
    result = run(*options, preexec_fn=no_large_files)
    assert_one_line(result, 1, "File too large", "after all epochs, before the first checkpoint")
    assert "checkpoint is" not in result.stderr
    options = ["--chains", 20, "--iterations", 12, "--out", tmp_path / "v"]
    result = scripts.run("visualize.py", *options, preexec_fn=no_large_files)
    assert_one_line(result, 1, "File too large", "at iteration 12, before the first checkpoint")


def test_hanging_up_is_a_request_to_stop(tmp_path, small_data):
    options = ["--data", small_data, "--epochs", 1000, "--mode", "dg", "--out", tmp_path / "run"]
    process = subprocess.Popen(command("train.py", *options), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "checkpoint.npz").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    assert "go on with: python train.py --resume" in error


def test_names_of_default_folders_stay_in_their_folder(tmp_path):
    """A layer in an ONNX file may be named /conv1/Conv, or worse."""
    for name in ("net-/conv1/Conv", "../../etc", "a\nb", "n\udcff"):
        path = free_folder(tmp_path, name)
        assert path.parent == tmp_path
        assert path.name.isprintable()
    assert free_folder(tmp_path, "lenet-fc2").name == "lenet-fc2"


def test_weights_that_are_not_finite_are_not_gone_on_with(tmp_path, small_data):
    """Not even past the last epoch, where they would become the result."""
    folder = tmp_path / "run"
    options = ["--data", small_data, "--epochs", 1, "--mode", "dg", "--out", folder]
    assert run(*options).returncode == 0
    (folder / "model.npz").unlink()
    arrays = load_npz(folder / "checkpoint.npz")
    arrays["w/fc2.w"] = arrays["w/fc2.w"] * np.float32(np.nan)
    save_npz(folder / "checkpoint.npz", arrays)
    assert_one_line(run("--resume", folder), 2, "is not of this run: w/fc2.w is not finite")
    assert not (folder / "model.npz").exists()
