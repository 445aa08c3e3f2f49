"""Image folders: prepared, interrupted, broken; cut, mirrored, averaged."""

import errno
import os
import resource
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app import files
from app.data import folder, prepared
from app.data.ahead import ahead
from app.data.images import Images, Pixels
from app.data.load import load
from tests import scripts

SHAPE = (20, 24, 3)


def picture(rng, label):
    """Smooth, so that JPEG keeps it, and telling its class by its colour."""
    pixels = np.full(
        (rng.integers(30, 60), rng.integers(30, 60), 3), 40 + rng.integers(20), np.uint8
    )
    pixels[..., label] += 150
    return Image.fromarray(pixels)


@pytest.fixture
def images(tmp_path):
    """train/ with 3 x 12 and val/ with 3 x 4 images, in several formats."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 4)):
        for label, name in enumerate(("n01", "n02", "n03")):
            where = tmp_path / "images" / part / name
            where.mkdir(parents=True)
            for i in range(count):
                suffix = ("JPEG", "png", "jpg")[i % 3]
                picture(rng, label).save(where / f"{i:02}.{suffix}")
    (tmp_path / "images" / "train" / "n01" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / "train" / "n01" / ".hidden.jpg").write_text("nor this")
    return tmp_path / "images"


def test_a_folder_is_read_and_prepared_once(images, monkeypatch):
    names, (train, labels), (val, val_labels), mean = prepared.read(images, SHAPE)
    assert names == ["n01", "n02", "n03"]
    assert (train.shape, val.shape) == ((36, *SHAPE), (12, *SHAPE))
    assert labels.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert val_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(train.mean(axis=(1, 2)).argmax(axis=1), labels)
    np.testing.assert_allclose(mean, train.mean(axis=0), rtol=1e-6)
    with Image.open(images / "train/n02/01.png") as first:
        expected = np.asarray(first.resize((24, 20), Image.BILINEAR))
    np.testing.assert_array_equal(train[13], expected)
    monkeypatch.setattr(folder, "decode", lambda *a: pytest.fail("decoded again"))
    np.testing.assert_array_equal(prepared.read(images, SHAPE)[1][0], train)


def test_grey_and_other_sizes_have_arrays_of_their_own(images, tmp_path):
    _, (grey, _), *_ = prepared.read(images, (8, 9, 1), tmp_path / "elsewhere")
    assert grey.shape == (36, 8, 9, 1)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["prepared-8x9x1"]


def test_broken_images_are_named_and_skipped_only_on_request(images):
    whole = (images / "train/n03/00.JPEG").read_bytes()
    (images / "train/n01/03.JPEG").write_bytes(whole[:300])
    (images / "train/n02/05.jpg").write_bytes(b"")
    (images / "val/n03/01.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    for _ in range(2):  # told again when all has been prepared
        with pytest.raises(ValueError, match="3 of the images cannot be decoded") as error:
            prepared.read(images, SHAPE)
        for name in ("n01/03.JPEG", "n02/05.jpg", "n03/01.png", "--skip-broken"):
            assert name in str(error.value)
    _, (train, labels), (val, _), _ = prepared.read(images, SHAPE, skip_broken=True)
    assert (len(train), len(val)) == (34, 11)
    assert np.bincount(labels).tolist() == [11, 11, 12]
    np.testing.assert_array_equal(train.mean(axis=(1, 2)).argmax(axis=1), labels)


@pytest.mark.parametrize("killed_at", [0, 1, 5, 20, 35])
def test_preparation_goes_on_where_it_was_killed(images, monkeypatch, killed_at):
    (images / "train/n01/03.JPEG").write_bytes(b"broken")
    expected = prepared.read(images, SHAPE, images.parent / "whole", skip_broken=True)
    decode, count = folder.decode, 0

    def killed(path, shape):
        nonlocal count
        count += 1
        if count > killed_at:
            raise KeyboardInterrupt
        return decode(path, shape)

    place = images.parent / "killed"
    monkeypatch.setattr(folder, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        prepared.read(images, SHAPE, place)
    partial = place / "prepared-20x24x3" / "train.partial"
    with open(partial, "ab") as file:
        file.write(b"half an image")
    monkeypatch.setattr(folder, "decode", decode)
    found = prepared.read(images, SHAPE, place, skip_broken=True)
    for ours, theirs in zip(found[1:3], expected[1:3], strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(found[3], expected[3])


def test_other_images_than_were_prepared(images):
    prepared.read(images, SHAPE)
    (images / "val/n01/00.JPEG").rename(images / "val/n01/77.JPEG")
    with pytest.raises(ValueError, match="was made from other images than are now in"):
        prepared.read(images, SHAPE)
    (images / "val/n01/77.JPEG").rename(images / "val/n01/00.JPEG")
    pixels = images / "prepared-20x24x3" / "train.pixels"
    pixels.write_bytes(pixels.read_bytes()[:-1])
    with pytest.raises(ValueError, match="51839 bytes, expected 51840: remove it"):
        prepared.read(images, SHAPE)


def test_folders_of_another_layout(images, monkeypatch):
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ValueError, match="48 decoded images need 0.0 GB more, but only 0.0 GB"):
        prepared.read(images, SHAPE)
    (images / "val/n04").mkdir()
    with pytest.raises(ValueError, match="val/n04: no such class under .*train"):
        prepared.read(images, SHAPE)
    (images / "val").rename(images / "test")
    with pytest.raises(ValueError, match="no folder val, but .*test, train; expected train/CLASS"):
        prepared.read(images, SHAPE)


def test_classes_without_images(images):
    (images / "train/n09").mkdir()
    with pytest.raises(ValueError, match="train/n09: no images; expected train/CLASS"):
        prepared.read(images, SHAPE)
    for part in ("train", "val"):
        for name in ("n02", "n03", "n09"):
            shutil.rmtree(images / part / name, ignore_errors=True)
    with pytest.raises(ValueError, match="train: only one class"):
        prepared.read(images, SHAPE)


def test_prepared_arrays_of_other_images_or_broken_ones_are_not_used(images):
    place = images / "prepared-20x24x3"
    prepared.read(images, SHAPE)
    (place / "mean.floats").write_bytes(b"")
    with pytest.raises(ValueError, match="mean.floats: 0 bytes, expected 5760: remove it"):
        prepared.read(images, SHAPE)
    (place / "mean.floats").unlink()
    (place / "val.broken").write_text('[3, "half a li')
    with pytest.raises(ValueError, match="val.broken is not sound: remove"):
        prepared.read(images, SHAPE)
    (place / "val.broken").write_text("")
    prepared.read(images, SHAPE)
    other = (images / "train/n02/00.JPEG").read_bytes()
    (images / "train/n01/00.JPEG").write_bytes(other)
    with pytest.raises(ValueError, match="was made from other images than are now in"):
        prepared.read(images, SHAPE)


def test_deep_grey_images_keep_their_shades(tmp_path):
    shades = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(shades).save(tmp_path / "deep.png")
    found = folder.decode(tmp_path / "deep.png", (16, 16, 1))
    np.testing.assert_array_equal(found.ravel(), np.arange(256))
    Image.fromarray(shades.astype(np.float32)).save(tmp_path / "real.tiff")
    assert "pixels of 32 bits" in folder.decode(tmp_path / "real.tiff", (16, 16, 1))


def test_a_limit_leaves_images_of_every_class(images):
    for limit in (3, 5, 20):
        train, _ = load(images, limit=limit, input_shape=(20, 24, 3))
        assert len(train) == limit
        assert train.on_disk
        assert set(train.labels) == {0, 1, 2}
        x, labels = train.batch(slice(0, limit))
        np.testing.assert_array_equal(x.mean(axis=(1, 2)).argmax(axis=1), labels)


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        ({"mean": [1, 2, 3]}, "the images have 1 channel, the --pixel-mean .* 3 numbers"),
        ({"scale": [1, 2, 3]}, "the images have 1 channel, the --pixel-scale .* 3 numbers"),
        ({"scale": 1e-50}, "--pixel-scale 0.0: not finite, or 0"),
        ({"scale": 1e50}, "--pixel-scale inf"),
        ({"mean": -1e50}, "--pixel-mean -inf"),
    ],
)
def test_pixels_that_cannot_be(pixels, problem):
    with pytest.raises(ValueError, match=problem):
        Images(np.zeros((2, 9, 9, 1), np.uint8), np.arange(2), 2, Pixels(**pixels))


def test_pixels():
    grid = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    mean = np.arange(3.0)
    x = Pixels(scale=(1, 2, 4), mean=mean, order="bgr")(grid)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, ((grid - mean) * (1, 2, 4))[..., ::-1])
    image = np.arange(4 * 5 * 3.0).reshape(4, 5, 3)
    x = Pixels(1, image)(grid, top=1, left=2)
    np.testing.assert_array_equal(x, grid - image[1:3, 2:5])


def test_training_cuts_and_mirrors_and_testing_takes_five_places():
    stored = np.arange(9 * 8 * 3, dtype=np.uint8).reshape(1, 9, 8, 3).repeat(300, axis=0)
    mean = np.random.default_rng(1).random((9, 8, 3))
    images = Images(stored, np.arange(300), 300, Pixels(1, mean), (6, 5))
    whole = stored[0] - np.float32(mean)
    cuts = [whole[i : i + 6, j : j + 5] for i in range(4) for j in range(4)]
    cuts += [cut[:, ::-1] for cut in cuts]
    x, labels = images.training_batch(np.arange(300), np.random.default_rng(0))
    assert labels.tolist() == list(range(300))
    seen = [next(k for k, cut in enumerate(cuts) if np.array_equal(cut, image)) for image in x]
    assert len(set(seen)) == 32  # every place, mirrored and not
    again, _ = images.training_batch(np.arange(300), np.random.default_rng(0))
    np.testing.assert_array_equal(x, again)
    views = [images.batch(slice(0, 2), place)[0][0] for place in range(images.views)]
    corners = [cuts[k] for k in (5, 0, 3, 12, 15)]  # the centre first
    np.testing.assert_array_equal(views, corners)
    scale, centre, order = images.input_settings()
    np.testing.assert_array_equal(centre, np.float32(mean)[1:7, 1:6])
    digits = Images(stored, np.arange(300), 300)
    assert digits.views == 1  # a 3 must not be mirrored
    assert not digits.on_disk
    np.testing.assert_allclose(digits.training_batch(np.array([5]), None)[0][0], stored[5] / 256)
    with pytest.raises(ValueError, match="the net takes images of 10 x 8, these are only 9 x 8"):
        Images(stored, np.arange(300), 300, size=(10, 8))


def test_ahead_keeps_order_and_tells_errors():
    assert list(ahead(lambda i: i * i, range(7))) == [i * i for i in range(7)]
    assert list(ahead(str, [])) == []
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda i: 1 // (3 - i), range(9)))


def test_hidden_and_system_folders_are_no_classes(images):
    """Jupyter, macOS, Synology and Windows leave folders, some with an image in them."""
    expected = prepared.read(images, SHAPE, images.parent / "before")
    for part in ("train", "val"):
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"):
            (images / part / name).mkdir()
            shutil.copy(images / "train/n01/00.JPEG", images / part / name / "00.JPEG")
        (images / part / ".empty").mkdir()
        (images / part / "n01" / "folder.jpg").mkdir()
        (images / part / "n01" / "@eaDir").mkdir()
    names, (train, labels), *_ = prepared.read(images, SHAPE, images.parent / "after")
    assert names == expected[0]
    np.testing.assert_array_equal(train, expected[1][0])
    np.testing.assert_array_equal(labels, expected[1][1])


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
    ],
)
def test_what_fails_around_an_image_does_not_mark_it(images, monkeypatch, failure):
    """It ends the run; and the image is there when the failure has passed."""
    expected = prepared.read(images, SHAPE, images.parent / "whole")
    bad, opened, place = images / "train/n02/04.png", folder.open_regular, images.parent / "place"

    def fail(path):
        if path == bad:
            raise failure
        return opened(path)

    monkeypatch.setattr(folder, "open_regular", fail)
    with pytest.raises(type(failure)):
        prepared.read(images, SHAPE, place)
    monkeypatch.undo()
    for broken in (place / "prepared-20x24x3").glob("*.broken"):
        assert broken.read_text() == ""
    np.testing.assert_array_equal(prepared.read(images, SHAPE, place)[1][0], expected[1][0])


@pytest.mark.parametrize(
    "failure", [MemoryError(), OSError("out of memory when reading image file"), OSError(5, "I/O")]
)
def test_what_fails_in_a_decoder_for_the_system_is_raised(images, monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(folder.Image, "open", fail)
    with pytest.raises((MemoryError, OSError)):
        folder.decode(images / "train/n01/00.JPEG", SHAPE)
    failure = OSError("broken data stream when reading image file")  # the file's own fault
    assert "00.JPEG: broken data" in folder.decode(images / "train/n01/00.JPEG", SHAPE)


def test_a_failing_read_is_told_with_the_images_name(images, tmp_path):
    (images / "train/n02/99.png").symlink_to(images / "nothing-there.png")
    result = scripts.run("train.py", "--data", images, "--out", tmp_path / "r")
    scripts.assert_one_line(result, 2, "n02/99.png: No such file or directory")
    (images / "train/n02/99.png").unlink()
    os.mkfifo(images / "train/n02/99.png")
    result = scripts.run("train.py", "--data", images, "--out", tmp_path / "r")
    assert result.returncode == 2
    assert "n02/99.png is no regular file, but a pipe" in result.stderr


def test_no_other_program_is_started_for_an_image(images, tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript, whatever a file's name says."""
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin32c"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (images / "train/n01/50.JPEG").write_bytes(eps)
    (images / "train/n01/51.eps").write_bytes(eps)
    with pytest.raises(ValueError, match="1 of the images .*50.JPEG: not an image of the formats"):
        prepared.read(images, SHAPE)
    assert not (tmp_path / "started").exists()


def test_names_that_are_no_utf8(images):
    shutil.copy(images / "train/n01/00.JPEG", os.fsencode(images / "train/n01") + b"/\xff.jpg")
    with open(os.fsencode(images / "train/n02") + b"/\xfe.jpg", "wb") as file:
        file.write(b"broken")
    with pytest.raises(ValueError, match="1 of the images cannot be decoded"):
        prepared.read(images, SHAPE)
    assert len(prepared.read(images, SHAPE, skip_broken=True)[1][0]) == 37


def test_warnings_of_pillow_break_no_image(images, monkeypatch):
    """Under PYTHONWARNINGS=error they are raised."""
    import warnings

    warn = warnings.warn
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda *a, **k: (warn("odd"), resize(*a, **k))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(prepared.read(images, SHAPE)[1][0]) == 36


def test_a_prepared_set_is_only_read(images, monkeypatch):
    """It may be on a disk that cannot be written, and serve several runs at once."""
    expected = prepared.read(images, SHAPE)[1][0]

    def refuse(*_, **__):
        raise PermissionError("read-only")

    for name in ("hold", "write_whole", "write_part"):
        monkeypatch.setattr(prepared, name, refuse)
    monkeypatch.setattr(prepared.Path, "mkdir", refuse)
    np.testing.assert_array_equal(prepared.read(images, SHAPE)[1][0], expected)


def test_one_process_prepares_at_a_time(images):
    place = images / "prepared-20x24x3"
    place.mkdir()
    held = files.hold(place / ".lock", "busy")
    with pytest.raises(ValueError, match="another process is at work in .*prepared-20x24x3"):
        prepared.read(images, SHAPE)
    os.close(held)
    assert len(prepared.read(images, SHAPE)[1][0]) == 36


def test_nets_of_other_channels(images):
    with pytest.raises(ValueError, match="images: the net takes images of 4 channels"):
        load(images, input_shape=(20, 24, 4))
    with pytest.raises(ValueError, match="images: the images are grey, the --pixel-order bgr"):
        load(images, input_shape=(20, 24, 1), pixels={"order": "bgr"})


TINY = ["--net", "lenet", "--pixel-mean", "image", "--epochs", 4, "--batch-size", 8]


def test_training_on_a_folder_as_a_user_does(images, tmp_path):
    result = scripts.run("train.py", *TINY, "--data", images, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    rows = scripts.rows(tmp_path / "run")
    assert [row["stage"] for row in rows] == ["GG", "GG", "GG", "DG"]
    assert float(rows[-1]["loss"]) < 1
    with np.load(tmp_path / "run" / "model.npz") as model:
        assert model["input_mean"].shape == (28, 28, 1)
        assert model["input_shape"].tolist() == [28, 28, 1]
        assert model["fc2.b"].shape == (3,)


def test_a_full_disk_while_preparing_is_one_line(images, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    result = scripts.run(
        "train.py",
        *TINY,
        "--data",
        images,
        "--net",
        "cifar10-quick",
        "--out",
        tmp_path / "run",
        preexec_fn=limit,
    )
    assert result.returncode == 2
    assert result.stderr.rstrip().split("\n")[-1].startswith("train.py: error: ")
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    again = scripts.run(
        "train.py", *TINY, "--data", images, "--net", "cifar10-quick", "--out", tmp_path / "run"
    )
    assert again.returncode == 0, again.stderr
