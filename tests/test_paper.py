"""Of the tables and figures: schedules, comparisons, and files of runs that are not sound."""

import subprocess
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from app.formats.npz import save_npz
from app.paper.errors import comparison, comparisons, error, history, paired
from app.paper.figures import CLASSES
from app.paper.jobs import Job, by_turns, why
from app.paper.natural import options
from app.paper.sampling import as_table, result_of, samples_of
from app.runs.folder import write_json
from tests.scripts import ROOT

NAMES = (ROOT / "assets" / "imagenet-classes.txt").read_text().splitlines()


def test_the_schedule_has_the_papers_proportions():
    asked = dict(pairwise(map(str, options("GG+DG", 0.002, 42, 50_000, 256))))
    assert (asked["--epochs"], asked["--switch-epoch"]) == ("42", "27")  # 70 and 45 in the paper
    assert asked["--lr-step"] == str(12 * 196)  # 196 batches an epoch; the paper: 20 epochs
    assert asked["--finetune-lr"] == "0.0006"


def test_classes_of_the_figures_are_imagenets():
    assert {name for names in CLASSES.values() for name in names} <= set(NAMES)


def test_runs_that_can_be_compared_are_done_one_after_the_other():
    found = by_turns([["dg 0", "dg 1"], ["ggdg 0", "ggdg 1"], ["joint 0"]])
    assert found == ["dg 0", "ggdg 0", "joint 0", "dg 1", "ggdg 1"]


def test_comparison_in_standard_errors_of_paired_differences():
    # Both seeds differ by 0.2 and 0.3: the mean is 0.25, its standard error 0.05.
    assert paired([0.7, 0.8], [0.9, 1.1]) == pytest.approx((-0.25, 0.05))
    told = "5.0 standard errors of the paired differences, 2 seeds"
    assert comparison([0.7, 0.8], [0.9, 1.1]) == f"GG+DG is 0.250 ± 0.050 below DG: {told}"
    above = comparison([0.9, 1.1], [0.7, 0.8], "GG", "joint")
    assert above == f"GG is 0.250 ± 0.050 above joint: {told}"
    assert comparison([0.7], [0.9]) == "GG+DG is 0.20 below DG, one seed"
    assert comparison([0.7], [0.7]) == "GG+DG is equal to DG: 0.70"
    with pytest.raises(ValueError, match="zip"):
        comparison([0.7, 0.8], [0.9])


def test_a_remedy_is_compared_with_what_it_is_for():
    errors = {"DG": [5, 5], "DG+DG": [4, 4], "GG": [4, 4], "GG+DG": [3, 4], "GG+DG, queue": [2]}
    found = [line.partition(":")[0].rstrip(".") for line in comparisons(errors)]
    assert found == [
        "DG+DG is 1.000 ± 0.000 below DG",
        "GG is 1.000 ± 0.000 below DG",
        "GG+DG is 1.500 ± 0.500 below DG",
        "GG+DG, queue is 3.00 below DG, one seed",
        "GG+DG is 0.500 ± 0.500 below DG+DG",
        "GG+DG, queue is 2.00 below DG+DG, one seed",
        "GG+DG, queue is 1.00 below GG+DG, one seed",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch,test_error_eq6,ess,seconds,test_error\n",
        "a,b\n1,2\n",
        "epoch,test_error_eq6\n1,7\n2,5.5\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,nan,1,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,7,1,9,nan\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,-1,1,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,1,1.5,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,1,1,inf,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,5,1,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n2,5,1,9,9\n",
        "\0",
        "x\n" * 99,
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,fast,1,9,9\n",
    ],
)
def test_metrics_that_are_not_sound(tmp_path, text):
    job = Job("train.py", ["--epochs", 2], tmp_path)
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match="metrics.csv does not end with the test error of epoch 2"):
        error(job)
    (tmp_path / "metrics.csv").write_text(
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,5.5,0.5,8,9\n"
    )
    assert error(job) == 5.5
    expected = {
        "epoch": [1, 2],
        "error": [7, 5.5],
        "error of f": [9, 9],
        "ess": [1, 0.5],
        "seconds": [9, 8],
    }
    assert history(job) == expected


def test_results_that_are_not_sound(tmp_path):
    job = Job("visualize.py", ["--chains", 2, "--iterations", 12], tmp_path)
    good = {
        "settings": job.settings,
        "seconds": 1.5,
        "units": [
            {"unit": 3, "acceptance": 0.9, "energy_error": None, "score": 7.0}
            | {"judgement": "samples"}
        ],
    }
    write_json(tmp_path / "diagnostics.json", good)
    assert result_of(job) == good
    assert as_table([job])[-1].endswith("| 2 | 0.90 | - | 7 | 0.75 | samples |")
    for edit in [
        [],
        None,
        {},
        good | {"settings": {}},
        good | {"seconds": "long"},
        good | {"units": []},
        good | {"units": [3]},
        good | {"units": None},
        good | {"units": [{"unit": 3}]},
        good | {"units": [good["units"][0] | {"score": "high"}]},
    ]:
        write_json(tmp_path / "diagnostics.json", edit)
        with pytest.raises(ValueError, match="diagnostics.json is not of this run"):
            result_of(job)
    (tmp_path / "diagnostics.json").write_text(50_000 * "[")
    with pytest.raises(ValueError, match="diagnostics.json is not sound JSON"):
        result_of(job)
    for samples in ({}, {"samples": np.zeros(3)}, {"samples": np.zeros((1, 3, 28, 28, 1))}):
        save_npz(tmp_path / "samples.npz", samples)
        with pytest.raises(ValueError, match="samples.npz is not of this run"):
            samples_of(job)


def test_what_ended_a_run_is_said(tmp_path):
    job = Job("train.py", [], tmp_path / "run")
    job.log.write_text("\repoch 1\repoch 2")
    ended = subprocess.run(["sh", "-c", "kill -SEGV $$"]).returncode
    assert why(SimpleNamespace(returncode=ended), job) == (
        "ended by the signal SIGSEGV, after: epoch 2"
    )
    assert why(SimpleNamespace(returncode=1), job) == "epoch 2"
