"""When memory runs out, the message says which option to lower."""

import resource

import pytest

from tests.scripts import assert_one_line, run


def limited(size):
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))}


@pytest.mark.parametrize("form", [[], ["--plain"]])
def test_training_says_what_to_lower(tmp_path, form):
    asked = ["--batch-size", 60_000, "--mode", "dg", "--threads", 1, "--out", tmp_path / "r"]
    result = run("train.py", *asked, *form, **limited(2**31))
    told = "out of memory", "lower --batch-size (it is 60000)", "before the first checkpoint"
    assert_one_line(result, 1, *told)


@pytest.mark.slow
def test_sampling_says_what_to_lower(tmp_path):
    asked = ["--chains", 20_000, "--threads", 1, "--out", tmp_path / "r"]
    result = run("visualize.py", *asked, **limited(2**31))
    assert_one_line(result, result.returncode, "out of memory", "lower --chains")
    assert result.returncode in (1, 2)
