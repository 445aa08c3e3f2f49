"""Short trainings in float64, for tests/test_mpi.py: what the ranks of an MPI job come to.

python -m tests.float64_training DATA OUT THREADS
"""

import sys
from pathlib import Path

import numpy as np

from app.formats.npz import save_npz
from app.job import started_job
from app.options.train_settings import complete
from app.runs.sampled import SampledTraining
from app.runs.training import Training
from train import net_and_data

# 83 images: 3 in the last batch of 16, and 3 in that of 40; of ten classes, three with one more.
COMMON = {"limit": 83, "epochs": 2, "batch_size": 16, "device": "cpu", "lr": 0.02}
RUNS = {
    "dg": {"mode": "dg"},
    "gg": {"mode": "gg"},
    "ggdg": {"mode": "ggdg", "epochs": 3, "batch_size": 40},
    "few-labels": {"mode": "gg", "labels": 21, "unlabeled_weight": 0.7},
    "samples": {"mode": "samples", "lr": 1e-3, "chains": 30, "rebirth": 0.2},
    "textbook": {"mode": "gg", "plain": True, "epochs": 1},
}


def main(data, out, threads):
    with started_job() as job:
        found = {}
        for name, own in RUNS.items():
            settings = complete(COMMON | own | {"data": data, "threads": int(threads)})
            network, train, test = net_and_data(settings)
            network.to(np, np.float64)
            kind = SampledTraining if settings["mode"] == "samples" else Training
            training = kind(settings, network, train, test, np, job.ranks)
            while training.epoch <= settings["epochs"]:
                for batch in training.batches():
                    training.step(*training.read_batch(batch))
                training.end_epoch()
            found |= {f"{name}/{key}": w for key, w in network.params().items()}
            for row in training.rows:
                numbers = [v for k, v in row.items() if k not in ("stage", "seconds")]
                found[f"{name}/row{row['epoch']}"] = np.array(numbers, float)
        if job.first:
            save_npz(Path(out), found)


if __name__ == "__main__":
    main(*sys.argv[1:])
