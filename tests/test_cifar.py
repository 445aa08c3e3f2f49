"""CIFAR-10's binary files: read, and refused when broken."""

import os

import numpy as np
import pytest

from app.data import cifar
from app.data.load import load


def cifar_folder(path, rng, count=20):
    path.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        records = rng.integers(0, 256, (count, cifar.RECORD), dtype=np.uint8)
        records[:, 0] = np.arange(count) % 10
        (path / f"{name}.bin").write_bytes(records.tobytes())
    return path


def test_cifar(tmp_path):
    path = cifar_folder(tmp_path / "cifar", np.random.default_rng(0))
    train, test = load(path, limit=30, pixels={"scale": 1, "mean": "image"})
    assert (len(train), train.shape, len(test)) == (30, (32, 32, 3), 20)
    raw = (path / "data_batch_1.bin").read_bytes()
    assert raw[0] == train.labels[0]
    assert raw[1 : 1 + 32] == train.images[0, 0, :, 0].tobytes()  # red, then green, then blue
    assert raw[1 + 1024 : 1 + 1024 + 32] == train.images[0, 0, :, 1].tobytes()
    everything, _ = cifar.read(path)
    np.testing.assert_allclose(
        train.batch(slice(0, 1))[0][0], train.images[0] - everything[0].mean(axis=0), atol=1e-4
    )
    with pytest.raises(ValueError, match="CIFAR-10 has 10 classes, --classes says 7"):
        load(path, classes=7)
    (path / "data_batch_2.bin").write_bytes(raw[:-5])
    with pytest.raises(ValueError, match=r"data_batch_2.bin: 61455 bytes, expected a multiple"):
        load(path)
    (path / "data_batch_2.bin").write_bytes(b"\x0b" + raw[1:])
    with pytest.raises(ValueError, match=r"data_batch_2.bin: label 11 of image 0 is out of range"):
        load(path)
    (path / "test_batch.bin").unlink()
    with pytest.raises(ValueError, match="found data_batch_1.bin, data_batch_2.bin"):
        load(path)


def test_hidden_files_pipes_and_devices(tmp_path):
    path = cifar_folder(tmp_path / "cifar", np.random.default_rng(0))
    (path / "._data_batch_1.bin").write_bytes(b"macOS")
    (path / "data_batch_9.bin").mkdir()
    assert len(cifar.read(path)[0][0]) == 40
    (path / "data_batch_9.bin").rmdir()
    os.mkfifo(path / "data_batch_9.bin")
    with pytest.raises(ValueError, match="data_batch_9.bin is no regular file"):
        cifar.read(path)
    (path / "data_batch_9.bin").unlink()
    (path / "data_batch_9.bin").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="data_batch_9.bin is no regular file"):
        cifar.read(path)
