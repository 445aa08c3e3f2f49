"""IDX files, sound and broken; MNIST itself; the order of the images."""

import gzip
import os
import tracemalloc

import numpy as np
import pytest

from app.data.idx import read_idx
from app.data.images import Images
from app.data.labels import labelled_and_not, rounds
from app.data.load import layout, load
from tests.conftest import idx_bytes
from tests.scripts import ROOT
from tests.test_cifar import cifar_folder


def test_mnist_is_what_it_should_be():
    train, test = load()
    assert train.images.shape == (60000, 28, 28, 1)
    assert test.images.shape == (10000, 28, 28, 1)
    assert train.images.dtype == np.uint8
    np.testing.assert_array_equal(
        np.bincount(train.labels), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    )
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    x, labels = test.batch(slice(0, 3))
    assert x.dtype == np.float32
    assert x.max() <= 255 / 256
    assert labels.tolist() == [7, 2, 1]


def test_plain_and_gzipped_files_and_other_spellings(small_data):
    expected = load(small_data)
    for path in list(small_data.iterdir()):
        contents = gzip.decompress(path.read_bytes())
        path.unlink()
        name = path.name.removesuffix(".gz").replace("-idx", ".idx").replace("t10k", "test")
        (small_data / f"emnist-letters-{name}").write_bytes(contents)
    for ours, theirs in zip(expected, load(small_data), strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_limit_and_classes(small_data):
    train, test = load(small_data, limit=50)
    assert (len(train), len(test)) == (50, 32)
    with pytest.raises(
        ValueError, match=r"label 9 of training image 9 is out of range, expected 0 .. 7"
    ):
        load(small_data, classes=8)
    train.need_every_class()
    for classes, limit, message in [
        (10, 3, "small-data: no training image of class 3, 4, 5, 6, 7, ... among 3"),
        (12, None, "class 10, 11 among 96"),
    ]:
        with pytest.raises(ValueError, match=message):
            load(small_data, classes, limit)[0].need_every_class()


def broken(contents, how):
    return {
        "empty": b"",
        "cut gzip": gzip.compress(contents)[:-30],
        "damaged gzip": gzip.compress(contents)[:40] + b"x" * 40 + gzip.compress(contents)[80:],
        "cut data": contents[:-1],
        "cut header": contents[:9],
        "too long": contents + b"12",
        "wrong magic": b"\x00\x00\x0d\x03" + contents[4:],
        "labels as images": idx_bytes(np.zeros(96, np.uint8)),
        "a picture": b"\x89PNG\r\n\x1a\n" + contents,
    }[how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", r"starts with 0x\(nothing\)"),
        ("cut gzip", "broken or truncated gzip"),
        ("damaged gzip", "broken or truncated gzip"),
        ("cut data", "truncated: 75263 bytes of data, expected 75264 for"),
        ("cut header", "truncated in its header: 9 of 16 bytes"),
        ("too long", "too long: more than 75264 bytes"),
        ("wrong magic", "starts with 0x00000d03, expected 0x00000803"),
        ("labels as images", "starts with 0x00000801, expected 0x00000803"),
        ("a picture", "not an IDX file"),
    ],
)
def test_broken_files_are_named(small_data, how, message):
    path = small_data / "train-images-idx3-ubyte.gz"
    path.write_bytes(broken(gzip.decompress(path.read_bytes()), how))
    with pytest.raises(ValueError, match=message) as error:
        load(small_data)
    assert str(path) in str(error.value)


def test_sizes_beyond_memory_are_not_believed(tmp_path):
    path = tmp_path / "huge"
    path.write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"data")
    with pytest.raises(
        ValueError, match="truncated: 4 bytes of data, expected 79228162458924105385300197375"
    ):  # noqa: E501
        read_idx(path, 3)


def test_no_more_is_unpacked_than_the_header_tells(tmp_path):
    """A small file of many zeros: gzip makes a thousand bytes of one."""
    bombs = {
        "longer": (idx_bytes(np.zeros((2, 3, 4), np.uint8)), "too long: more than 24 bytes"),
        "no header": (b"", "not an IDX file"),
        "claims more": (bytes([0, 0, 8, 3]) + b"\xff" * 12, "truncated"),
    }
    for name, (start, problem) in bombs.items():
        path = tmp_path / name
        path.write_bytes(gzip.compress(start + bytes(50_000_000), 1))
        tracemalloc.start()
        with pytest.raises(ValueError, match=problem):
            read_idx(path, 3)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000
    path.write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"1234")
    with pytest.raises(ValueError, match="truncated: 4 bytes"):
        read_idx(path, 3)


def test_pipes_and_devices_are_no_data(small_data):
    """A pipe would be waited for, a device read without end."""
    images = small_data / "train-images-idx3-ubyte.gz"
    images.unlink()
    os.mkfifo(images)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz is no regular file"):
        load(small_data)
    images.unlink()
    images.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz is no regular file"):
        load(small_data)


def test_folders_and_hidden_files_are_no_candidates(small_data):
    """Kaggle's MNIST has a folder for each file; macOS leaves ._ files."""
    expected = load(small_data)
    for path in list(small_data.iterdir()):
        (small_data / path.name.removesuffix(".gz")).mkdir()
        (small_data / f"._{path.name}").write_bytes(b"")
    (small_data / "__MACOSX").mkdir()
    for ours, theirs in zip(expected, load(small_data), strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["data_batch_1", "test_batch"], "is CIFAR-10 for Python"),
        (["cifar-10-batches-py/data_batch_1"], "cifar-10-batches-py is CIFAR-10 for Python"),
        (["data_batch_1.mat", "test_batch.mat"], "is CIFAR-10 for Matlab"),
        (["train", "test", "meta"], "is CIFAR-100"),
        (["train.bin", "test.bin", "fine_label_names.txt"], "is CIFAR-100"),
        (["train.mat", "test.mat", "meta.mat"], "is CIFAR-100"),
        (["cifar-10-binary.tar.gz"], "found cifar-10-binary.tar.gz, which must be unpacked"),
        (["Train/a/1.png", "Test/a/1.png"], "found Test, Train: the folders must be named train"),
        (["training/a/1.png", "notes.txt"], "found training: the folders must be named train"),
        (["n01/1.png", "n02/1.png", "x.csv"], "found n01/, n02/, x.csv; expected MNIST's"),
        ([".hidden", "__MACOSX/x"], "the folder is empty"),
        ([f"{i}.csv" for i in range(9)], r"5.csv, \.\.\.; expected"),
    ],
)
def test_other_layouts_are_named(tmp_path, entries, words):
    for entry in entries:
        path = tmp_path / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=words) as error:
        layout(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "train/CLASS/" in str(error.value)


def test_the_folder_above_is_told_from_the_folder(tmp_path, small_data):
    cifar_folder(tmp_path / "up" / "cifar-10-batches-bin", np.random.default_rng(0))
    with pytest.raises(ValueError, match="the images seem to be in .*up/cifar-10-batches-bin"):
        layout(tmp_path / "up")
    with pytest.raises(ValueError, match="the images seem to be in .*small-data"):
        layout(small_data.parent)
    with pytest.raises(ValueError, match="README.md is a file, not a folder"):
        layout(ROOT / "README.md")


def test_files_that_do_not_fit_together(small_data):
    labels = small_data / "train-labels-idx1-ubyte.gz"
    kept = labels.read_bytes()
    labels.write_bytes(idx_bytes(np.zeros(95, np.uint8)))
    with pytest.raises(ValueError, match="96 images in .* but 95 labels"):
        load(small_data)
    labels.write_bytes(kept)
    images = small_data / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(idx_bytes(np.zeros((32, 20, 28), np.uint8)))
    with pytest.raises(ValueError, match=r"training images are \(28, 28\) pixels, test images"):
        load(small_data)
    images.unlink()
    with pytest.raises(ValueError, match="no file like t10k-images-idx.*; found t10k-labels"):
        load(small_data)
    (small_data / "train-images-idx3-ubyte.copy").write_bytes(b"")
    with pytest.raises(ValueError, match="more than one file like train-images"):
        load(small_data)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(
        ValueError, match="the folder is empty; expected MNIST's four IDX files, or CIFAR"
    ):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load(tmp_path / "not-there")


def test_rounds_go_through_all_again_and_again():
    order = rounds(np.arange(100), 100, 3, 1)
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(order, rounds(np.arange(100), 100, 3, 1))
    assert (order != rounds(np.arange(100), 100, 3, 2)).any()
    assert (order != rounds(np.arange(100), 100, 4, 1)).any()
    longer = rounds(np.array([5, 7, 9]), 10, 0)
    assert [sorted(longer[i : i + 3]) for i in (0, 3, 6)] == [[5, 7, 9]] * 3
    assert len({tuple(longer[i : i + 3]) for i in (0, 3, 6)}) > 1


def test_labelled_images_are_balanced_and_of_the_seed():
    labels = np.random.default_rng(0).integers(0, 4, 200)
    chosen, others = labelled_and_not(labels, 42, 4, seed=1)
    assert sorted([*chosen, *others]) == list(range(200))
    assert sorted(np.bincount(labels[chosen])) == [10, 10, 11, 11]
    np.testing.assert_array_equal(chosen, labelled_and_not(labels, 42, 4, seed=1)[0])
    assert (chosen != labelled_and_not(labels, 42, 4, seed=2)[0]).any()
    more, _ = labelled_and_not(labels, 60, 4, seed=1)
    assert set(chosen) < set(more)
    few = np.array([0] * 50 + [1] * 3)  # all of a class that has too few
    assert np.bincount(few[labelled_and_not(few, 20, 2, 0)[0]]).tolist() == [17, 3]
    with pytest.raises(ValueError, match="--labels 201: there are only 200 training images"):
        labelled_and_not(labels, 201, 4, 0)
    with pytest.raises(ValueError, match="--labels 3: at least one for each of the 4 classes"):
        labelled_and_not(labels, 3, 4, 0)


def test_labels_may_count_from_one(small_data):
    """As in EMNIST's letters, 1 to 26."""
    for name, count in (("train", 96), ("t10k", 32)):
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)
        (small_data / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    train, test = load(small_data)
    assert set(train.labels) == set(test.labels) == set(range(10))
    labels[3] = 0
    (small_data / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    with pytest.raises(ValueError, match=r"label 0 of test image 3 is .* expected 1 .. 10"):
        load(small_data)


def test_images_held_out_are_each_in_one_part_only():
    images = Images(np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1), np.arange(40) % 4, 4)
    images = images.only(np.arange(4, 34))
    (train, held), again = images.apart(12), images.apart(12)
    assert (len(train), len(held)) == (18, 12)
    np.testing.assert_array_equal(np.union1d(train.index, held.index), np.arange(4, 34))
    np.testing.assert_array_equal(held.index, again[1].index)
    np.testing.assert_array_equal(held.labels, held.index % 4)
    assert set(held.labels) == set(range(4))
    with pytest.raises(ValueError, match="--held-out 30: there are only 30 training images"):
        images.apart(30)
