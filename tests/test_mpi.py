"""The scripts started by mpiexec: the same results on any number of ranks, and their ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from app.formats.npz import load_npz
from tests.float64_training import RUNS
from tests.scripts import ROOT, command, rows, run, same_weights

BESIDE = Path(sys.executable).parent / "mpiexec"  # the mpich wheel puts it there
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
try:
    import mpi4py
except ImportError:
    mpi4py = None

needs_mpi = pytest.mark.skipif(
    not (mpi4py and MPIEXEC), reason="not run by MPI: pip install '.[mpi]' brings mpi4py and mpich"
)
pytestmark = needs_mpi
SHORT = "--threads", 1, "--limit", 150, "--batch-size", 64, "--epochs", 2
PLENTY = 120  # seconds: on a busy machine a process takes some to start


def on_ranks(count, script, *options):
    """The command of tests/scripts.py, on so many ranks."""
    python, path, *rest = command(script, *options)
    return [MPIEXEC, "-n", str(count), python, "-m", "mpi4py", path, *rest]


def run_on_ranks(count, script, *options):
    how = {"capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(on_ranks(count, script, *options), **how)


def wait_for(condition, process):
    """Wait until condition() is true, or the process has ended."""
    end = time.monotonic() + PLENTY
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def start(count, script, *options):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(on_ranks(count, script, *options), **how)


def ranks_of(process):
    """The ids of the ranks that an mpiexec has started, in order."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            started_by = int((Path("/proc") / str(parent) / "stat").read_text().split()[3])
        except (OSError, ValueError):
            continue
        number = [word[9:] for word in words if word.startswith(b"PMI_RANK=")]
        if number and started_by == process.pid:
            found[int(number[0])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def float64(folder, data, count, threads=1):
    """What tests/float64_training.py comes to on so many ranks; 0: without mpiexec."""
    out = folder / f"{count}-{threads}-{len(list(folder.iterdir()))}.npz"
    program = "-m", "tests.float64_training", str(data), str(out), str(threads)
    start = [MPIEXEC, "-n", str(count)] if count else []
    result = subprocess.run(
        [*start, sys.executable, *program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return load_npz(out)


def test_any_number_of_ranks_learns_the_same(tmp_path, small_data):
    out = tmp_path / "found"
    out.mkdir()
    alone = float64(out, small_data, 0)
    assert {name.partition("/")[0] for name in alone} == set(RUNS)
    for name, numbers in float64(out, small_data, 1).items():
        np.testing.assert_array_equal(numbers, alone[name], name)
    for count, threads in ((2, 1), (3, 1), (4, 1), (2, 2)):
        found = float64(out, small_data, count, threads)
        assert found.keys() == alone.keys()
        for name, numbers in alone.items():
            np.testing.assert_allclose(found[name], numbers, rtol=1e-10, atol=1e-10, err_msg=name)
    for name, numbers in float64(out, small_data, count, threads).items():
        np.testing.assert_array_equal(numbers, found[name], name)  # from run to run


def test_train_on_ranks(tmp_path, small_data):
    """train.py itself, in float32: one rank bit for bit, three up to rounding."""
    folders = [tmp_path / str(count) for count in (0, 1, 3)]
    assert run("train.py", *SHORT, "--out", folders[0]).returncode == 0
    for count, folder in zip((1, 3), folders[1:], strict=True):
        result = run_on_ranks(count, "train.py", *SHORT, "--out", folder)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("weights in") == 1
        assert (", 3 ranks" in result.stdout) == (count == 3)
        assert {path.name for path in folder.iterdir()} == {p.name for p in folders[0].iterdir()}
    same_weights(folders[0], folders[1])
    alone, shared = (load_npz(folder / "model.npz") for folder in (folders[0], folders[2]))
    for name, w in alone.items():
        if w.dtype.kind == "f":
            np.testing.assert_allclose(shared[name], w, rtol=1e-5, atol=1e-5)
    for one, other in zip(rows(folders[0]), rows(folders[2]), strict=True):
        assert other["stage"] == one["stage"]
        for column in ("loss", "ess", "test_error", "test_error_eq6"):
            assert float(other[column]) == pytest.approx(float(one[column]), rel=1e-4, abs=0.02)


def test_a_killed_rank_ends_the_job_and_others_go_on(tmp_path):
    """By 4 ranks, killed; by 2, stopped; then by 1 without mpiexec, and as if never interrupted."""
    more = "--threads", 1, "--limit", 640, "--epochs", 5
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert run("train.py", *more, "--out", whole).returncode == 0
    process = start(4, "train.py", *more, "--out", folder)
    wait_for((folder / "checkpoint.npz").exists, process)
    ranks = ranks_of(process)
    assert len(ranks) == 4
    os.kill(ranks[2], signal.SIGKILL)
    began = time.monotonic()
    out, error = process.communicate(timeout=PLENTY)
    assert time.monotonic() - began < 10
    assert process.returncode not in (0, 2)
    assert "signal 9" in out + error
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)

    epochs = len(rows(folder))
    process = start(2, "train.py", "--resume", folder)
    wait_for(lambda: len(rows(folder)) > epochs, process)
    if process.poll() is None:
        os.kill(ranks_of(process)[1], signal.SIGTERM)  # any rank may be told
    out, error = process.communicate(timeout=PLENTY)
    if process.returncode:  # it may have come to its end meanwhile
        assert process.returncode == 128 + signal.SIGTERM
        assert error.count("stopped; go on with: python train.py --resume") == 1
        assert "Abort" not in out + error
        assert run("train.py", "--resume", folder).returncode == 0
    assert len(rows(folder)) == 5
    expected = load_npz(whole / "model.npz")
    for name in expected.keys() & {"conv1.w", "conv2.w", "fc1.w", "fc2.w"}:  # rounding has grown
        assert np.linalg.norm(load_npz(folder / "model.npz")[name] - expected[name]) < 3e-3 * (
            np.linalg.norm(expected[name])
        )
    for one, other in zip(rows(whole), rows(folder), strict=True):
        assert float(other["loss"]) == pytest.approx(float(one["loss"]), rel=1e-3)


@pytest.mark.slow
def test_chains_of_a_model_that_learns_from_them_go_on_on_other_ranks(tmp_path):
    """By 3 ranks, all of them killed; by 2; as if by one process, up to rounding."""
    few = "--mode", "samples", "--chains", 30, "--threads", 1, "--limit", 320, "--epochs", 3
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert run("train.py", *few, "--out", whole).returncode == 0
    process = start(3, "train.py", *few, "--out", folder)
    wait_for((folder / "checkpoint.npz").exists, process)
    for rank in ranks_of(process):
        os.kill(rank, signal.SIGKILL)
    process.communicate(timeout=PLENTY)
    result = run_on_ranks(2, "train.py", "--resume", folder)
    assert result.returncode == 0, result.stderr
    for one, other in zip(rows(whole), rows(folder), strict=True):
        for column in ("loss", "gap", "acceptance", "step_size"):
            assert float(other[column]) == pytest.approx(float(one[column]), rel=1e-3)
    expected, found = (load_npz(path / "model.npz") for path in (whole, folder))
    for name, w in expected.items():
        if w.dtype.kind == "f":
            assert np.linalg.norm(found[name] - w) <= 1e-3 * np.linalg.norm(w), name


SAMPLING = "--unit", "3,5", "--chains", 2, "--threads", 1, "--precision", "float64"


def test_the_same_pictures_on_any_number_of_ranks(tmp_path):
    short = *SAMPLING, "--iterations", 12, "--leapfrog-steps", 5, "--film"
    assert run("visualize.py", *short, "--out", tmp_path / "0").returncode == 0
    alone = load_npz(tmp_path / "0" / "checkpoint.npz")
    samples = load_npz(tmp_path / "0" / "samples.npz")["samples"]
    for count in (1, 3, 5):  # in the last, a rank has no chain
        folder = tmp_path / str(count)
        result = run_on_ranks(count, "visualize.py", *short, "--out", folder)
        assert result.returncode == 0, result.stderr
        assert {path.name for path in folder.iterdir()} == {
            path.name for path in (tmp_path / "0").iterdir()
        }
        found = load_npz(folder / "samples.npz")["samples"]
        np.testing.assert_allclose(found, samples, rtol=1e-10, atol=1e-10)
        checkpoint = load_npz(folder / "checkpoint.npz")
        assert checkpoint.keys() == alone.keys()
        for name, numbers in alone.items():
            if name != "state":
                np.testing.assert_allclose(checkpoint[name], numbers, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_chains_go_on_on_another_number_of_ranks(tmp_path):
    long = *SAMPLING, "--iterations", 40, "--start", "ascent", "--ascent-steps", 20
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    assert run("visualize.py", *long, "--out", whole).returncode == 0
    process = start(3, "visualize.py", *long, "--out", folder)
    wait_for((folder / "settings.json").exists, process)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)  # mpiexec hands it on
    _, error = process.communicate(timeout=PLENTY)
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "python visualize.py --resume" in error
    result = run_on_ranks(2, "visualize.py", "--resume", folder)
    assert result.returncode == 0, result.stderr
    found, expected = (load_npz(path / "samples.npz")["samples"] for path in (folder, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_errors_are_one_line_of_one_rank(tmp_path):
    for count, options, part in (
        (2, ["train.py", "--bad"], "unrecognized arguments: --bad"),
        (3, ["train.py", "--data", "nowhere"], "no such folder"),
        (2, ["visualize.py", "--layer", "fc9"], "no layer 'fc9'"),
    ):
        result = run_on_ranks(count, *options, *(["--out", tmp_path / "a"] * (count > 2)))
        assert result.returncode == 2
        assert part in result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not (tmp_path / "a").exists()
    result = run_on_ranks(2, "train.py", *SHORT, "--lr", 1e6, "--out", tmp_path / "b")
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert "the loss is not finite at iteration" in lines[0]


def test_an_error_of_one_rank_ends_all(tmp_path):
    """On a rank that alone fails the others do not wait."""
    program = tmp_path / "program.py"
    program.write_text(
        "from app.console import fail_in_one_line\n"
        "from app.job import started_job\n"
        "with started_job() as job, fail_in_one_line(status=1):\n"
        "    if job.ranks.rank == 2:\n"
        "        raise MemoryError('here')\n"
        "    job.ranks.agree(None)\n"
        "    job.ranks.comm.Barrier()\n"
    )
    began = time.monotonic()
    result = subprocess.run(
        [MPIEXEC, "-n", "3", sys.executable, str(program)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PLENTY,
    )
    assert time.monotonic() - began < 30
    assert result.returncode == 1
    assert "rank 2: program.py: error: out of memory: here" in result.stderr
