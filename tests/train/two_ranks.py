"""Run under horovodrun by test_workers.py: train on each rank with its half of every batch, at once and in two goes, and save its weights."""

import sys
from pathlib import Path

import numpy as np
import torch

from recsys_spark.train.loop import train
from recsys_spark.train.negatives import Candidates
from recsys_spark.train.workers import HorovodCommunicator
from train.world import batches_of, circle, examples_of, held, make_network, make_plan

BATCH, LENGTH, ITEMS, EPOCHS = 32, 8, 25, 3


def run(communicator, sampled, checkpoints, epochs):
    histories, answers = circle()
    examples = examples_of(histories, LENGTH)
    feed = batches_of(examples, 2 * BATCH)

    def batches(epoch):
        for batch in feed(epoch):
            yield {name: tensor[communicator.rank :: 2] for name, tensor in batch.items()}

    users = np.arange(len(histories))[slice(None, 50) if communicator.rank == 0 else slice(50, None)]
    network = make_network(ITEMS, LENGTH, sparse=sampled)
    counts = torch.from_numpy(np.bincount(histories.items, minlength=ITEMS))
    progress = train(
        network,
        make_plan(epochs, len(examples.items) // (2 * BATCH), learning_rate=0.01, decay_epochs=EPOCHS),
        batches=batches,
        candidates=Candidates(counts, BATCH, 16) if sampled else None,
        held=held(histories.take(users), np.array(answers)[users].tolist()),
        communicator=communicator,
        checkpoints=checkpoints,
    )
    return network, progress


def main(out: Path) -> None:
    torch.set_num_threads(1)
    communicator = HorovodCommunicator()
    for sampled in (False, True):
        whole, progress = run(communicator, sampled, out / f"whole-{sampled}", EPOCHS)
        run(communicator, sampled, out / f"resumed-{sampled}", 1)
        communicator.allreduce_sum(torch.zeros(1))  # rank 0 has written its last checkpoint
        resumed, _ = run(communicator, sampled, out / f"resumed-{sampled}", EPOCHS)
        entries = {key: [entry[key] for entry in progress.epochs] for key in ("loss", "ndcg")}
        for name, network in [("whole", whole), ("resumed", resumed)]:
            weights = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
            np.savez(out / f"{name}-{sampled}-{communicator.rank}.npz", **weights, **entries)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
