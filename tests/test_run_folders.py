"""The folder of a training run: nothing in it is lost, broken, or another run's."""

import resource
import signal
import subprocess
import time

import numpy as np

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
