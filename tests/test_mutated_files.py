"""Files of every format that is read, with bytes flipped and cut: refused in a line, or read.

Each format runs in a process of its own, which may take 2 GiB more than it has after its imports,
and 60 seconds for a file: python -m tests.test_mutated_files npz 0 60
"""

# isort: split
import contextlib
import functools
import gc
import gzip
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from app.data.load import load
from app.formats.net import open_network, read_source
from app.formats.npz import load_npy, load_npz
from tests.conftest import idx_bytes

ROOT = Path(__file__).resolve().parent.parent
EXPORTED = sorted((ROOT / "tests" / "exported").glob("*.onnx"))
MEMORY, SECONDS = 2**31, 60
KNOWN = ValueError, OSError  # what a user is told in a line


def mutated(whole, rng):
    """Bytes flipped, half of the time in the first or last kilobyte, where headers are; or cut.

    In JSON, a digit becomes another instead, half of the time, which leaves it sound.
    """
    data = bytearray(whole)
    if data[:1] == b"{" and rng.random() < 0.5:
        digits = [place for place, byte in enumerate(data) if chr(byte).isdecimal()]
        data[rng.choice(digits)] = rng.choice(list(b"0123456789"))
        return bytes(data)
    for _ in range(rng.integers(1, 9)):
        near = min(1000, len(data)) if rng.random() < 0.5 else len(data)
        place = rng.integers(near)
        data[place if rng.random() < 0.5 else len(data) - 1 - place] ^= 1 << rng.integers(8)
    if rng.random() < 0.3:
        del data[rng.integers(len(data)) :]
    return bytes(data)


def same(arrays, others):
    return arrays.keys() == others.keys() and all(
        np.array_equal(arrays[name], others[name]) for name in arrays
    )


# A format is a function of a folder: it makes a sound file there, and returns the file that is
# to be broken and how it is read. That raises AssertionError if rubbish is taken that can be known.


def npz(folder):
    path = folder / "w.npz"
    shutil.copy(ROOT / "assets" / "lenet-dg.npz", path)
    whole = read_source("lenet", path).arrays

    def read():
        source = read_source("lenet", path)
        source.filled()
        assert same(source.arrays, whole)  # there are checksums

    return path, read


def npy(folder):
    path = folder / "mean.npy"
    np.save(path, np.random.default_rng(0).random((16, 16, 3), np.float32))

    def read():
        assert load_npy(path).nbytes < 10_000

    return path, read


def safetensors(folder):
    path = folder / "w.safetensors"
    entries, data = {}, b""
    for name, w in load_npz(ROOT / "assets" / "lenet-dg.npz").items():
        if not name.startswith("input_"):
            offsets = [len(data), len(data) + w.nbytes]
            entries[name] = {"dtype": "F32", "shape": w.shape, "data_offsets": offsets}
            data += w.tobytes()
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path, lambda: open_network("lenet", path)


def onnx(folder, exported):
    path = folder / "net.onnx"
    shutil.copy(exported, path)
    return path, lambda: open_network(path)


def images_and_labels(folder, name, suffix):
    """Four IDX files, of which that with this name is to be broken."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 10)):
        arrays = {"images-idx3": rng.integers(0, 256, (count, 28, 28), np.uint8)}
        arrays["labels-idx1"] = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in arrays.items():
            contents = idx_bytes(array)
            if suffix == ".gz":
                contents = gzip.compress(contents)
            (folder / f"{part}-{kind}-ubyte{suffix}").write_bytes(contents)
    whole = load(folder)[0]

    def read():
        train, _ = load(folder)
        assert train.images.shape == (20, 28, 28, 1)
        assert train.labels.max() < 10
        if suffix == ".gz":  # there is a checksum
            np.testing.assert_array_equal(train.images, whole.images)
            np.testing.assert_array_equal(train.labels, whole.labels)

    return folder / f"{name}-ubyte{suffix}", read


def cifar(folder):
    records = np.random.default_rng(0).integers(0, 10, (6, 3073), np.uint8)
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        (folder / f"{name}.bin").write_bytes(records.tobytes())

    def read():
        train, _ = load(folder)
        assert train.labels.max() < 10

    return folder / "data_batch_1.bin", read


def pictures(folder, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for number in range(2):
                file = folder / part / name / f"{number}.{suffix}"
                Image.fromarray(pixels + np.uint8(number)).save(file)

    def read():
        with tempfile.TemporaryDirectory() as prepared:
            train, _ = load(folder, input_shape=(16, 16, 3), prepared=prepared)
            assert train.images.shape == (4, 16, 16, 3)

    return folder / "train" / "cat" / f"1.{suffix}", read


def run_folder(folder, script, options, result, broken):
    """A run that was killed before its last file, of which the file `broken` is to be broken."""
    main = __import__(script).main

    def run(*words):
        """ValueError if it ends with status 2, as it should where something is wrong."""
        said = io.StringIO()
        sys.argv = [f"{script}.py"]
        gc.collect()
        quiet = contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO())
        unlocked = mock.patch(
            "app.runs.folder.hold"
        )  # this process is all runs one after the other
        with quiet[0], quiet[1], unlocked:
            try:
                main([*words, "--device", "cpu"])
                status = 0
            except SystemExit as end:
                status = end.code
        if status:
            lines = said.getvalue().strip().splitlines()
            assert status == 2, f"exit status {status}: {lines[-1:]}"
            assert len(lines) == 1, lines
            assert f"{script}.py: error: " in lines[0], lines
            assert "another process" not in lines[0], lines
            raise ValueError(lines[0])

    run(*options, "--out", str(folder / "run"))
    whole = load_npz(folder / "run" / result)

    def read():
        for name in ("model.npz", "diagnostics.json"):
            (folder / "run" / name).unlink(missing_ok=True)
        run("--resume", str(folder / "run"))
        assert same(load_npz(folder / "run" / result), whole)

    return folder / "run" / broken, read


def training(folder, broken):
    images_and_labels(folder, "train-images-idx3", "")
    options = ["--data", str(folder), "--epochs", "2", "--threads", "1"]
    return run_folder(folder, "train", options, "model.npz", broken)


def sampling(folder, broken):
    options = ["--chains", "2", "--iterations", "4", "--layer", "conv2", "--threads", "1"]
    return run_folder(folder, "visualize", options, "samples.npz", broken)


FORMATS = {  # name: (how it is made, how many are broken)
    "npz": (npz, 60),
    "npy": (npy, 40),
    "safetensors": (safetensors, 60),
    **{path.name: (functools.partial(onnx, exported=path), 20) for path in EXPORTED},
    "idx": (functools.partial(images_and_labels, name="train-images-idx3", suffix=""), 30),
    "idx.gz": (functools.partial(images_and_labels, name="train-images-idx3", suffix=".gz"), 40),
    "labels": (functools.partial(images_and_labels, name="train-labels-idx1", suffix=".gz"), 30),
    "cifar": (cifar, 30),
    "png": (functools.partial(pictures, suffix="png"), 30),
    "jpeg": (functools.partial(pictures, suffix="jpeg"), 30),
    "settings of train.py": (functools.partial(training, broken="settings.json"), 30),
    "checkpoint of train.py": (functools.partial(training, broken="checkpoint.npz"), 30),
    "settings of visualize.py": (functools.partial(sampling, broken="settings.json"), 30),
    "checkpoint of visualize.py": (functools.partial(sampling, broken="checkpoint.npz"), 30),
}


def problem_with(read):
    """What reading a broken file did that it must not do, or None; and whether it was refused."""

    def too_long(*_):
        raise AssertionError(f"it takes more than {SECONDS} seconds")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        read()
    except KNOWN as error:
        text = str(error)
        if "\n" in text or "pickle" in text or len(text) > 2000:
            return f"its message is {text[:2000]!r}", True
        return None, True
    except BaseException as error:  # noqa: BLE001  each is a fault
        return f"{type(error).__name__}: {error}", True
    finally:
        signal.alarm(0)
    return None, False


def break_files(name, seed, count):
    """Break a file of a format again and again. Prints how many were refused, and each fault."""
    make, _ = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        path, read = make(Path(folder))
        whole, _ = path.read_bytes(), read()  # the sound file
        present = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (present + MEMORY, present + MEMORY))
        refused, faults = 0, []
        for number in range(count):
            path.write_bytes(mutated(whole, np.random.default_rng((seed, number))))
            problem, was_refused = problem_with(read)
            refused += was_refused
            if problem:
                faults.append(f"{name}, seed {seed}, number {number}: {problem}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if peak > MEMORY:
            faults.append(f"{name}: {peak:,} bytes of memory")
        print(json.dumps({"refused": refused, "faults": faults}))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_broken_files_are_refused_in_a_line_or_read_as_they_were(name):
    count = FORMATS[name][1]
    command = [sys.executable, "-m", "tests.test_mutated_files", name, "0", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["faults"], "\n".join(found["faults"])
    assert found["refused"] > 0


def test_there_are_enough_broken_files():
    assert sum(count for _, count in FORMATS.values()) >= 300


if __name__ == "__main__":
    break_files(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
