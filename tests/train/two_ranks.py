"""Run under horovodrun by test_workers.py: train on each rank with its half of every batch, and save the rank's weights."""

import sys
from pathlib import Path

import numpy as np
import torch

from recsys_spark.train.loop import train
from recsys_spark.train.negatives import Candidates
from recsys_spark.train.workers import HorovodCommunicator
from train.world import batches_of, circle, examples_of, held, make_network, make_plan
from recsys_spark.train.validation import Held

BATCH, LENGTH, ITEMS, EPOCHS = 32, 8, 25, 3


def main(out: Path) -> None:
    torch.set_num_threads(1)
    communicator = HorovodCommunicator()
    histories, answers = circle()
    examples = examples_of(histories, LENGTH)
    feed = batches_of(examples, 2 * BATCH)

    def batches(epoch):
        for batch in feed(epoch):
            yield {name: tensor[communicator.rank :: 2] for name, tensor in batch.items()}

    mine = slice(None, 50) if communicator.rank == 0 else slice(50, None)
    users = np.arange(len(histories))[mine]
    for sampled in (False, True):
        network = make_network(ITEMS, LENGTH, sparse=sampled)
        counts = torch.from_numpy(np.bincount(histories.items, minlength=ITEMS))
        progress = train(
            network,
            make_plan(EPOCHS, len(examples.items) // (2 * BATCH), learning_rate=0.01),
            batches=batches,
            candidates=Candidates(counts, BATCH, 16) if sampled else None,
            held=held(histories.take(users), np.array(answers)[users].tolist()),
            communicator=communicator,
            checkpoints=out / f"sampled{sampled}",
        )
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        entries = {key: [entry[key] for entry in progress.epochs] for key in ("loss", "ndcg")}
        np.savez(out / f"sampled{sampled}-rank{communicator.rank}.npz", **weights, **entries)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
