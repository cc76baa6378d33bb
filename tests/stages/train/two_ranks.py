"""test_workers.py runs this as two Horovod ranks: each trains on its half of every batch and saves its weights.

It trains once without a break and once resumed.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from recsys_spark.networks.losses import CandidateSampler
from recsys_spark.stages.train.loop import train
from recsys_spark.stages.train.workers import HorovodCommunicator
from stages.train.synthetic_examples import batches_of, circle, examples_of, make_network, make_plan, validation_set

LENGTH, ITEMS, EPOCHS = 8, 25, 3
CASES = {
    "full": ("mlp", "targets", False, 32),
    "sampled": ("mlp", "targets", True, 32),
    "vae": ("vae", "users", False, 10),
    "attention": ("attention", "users", True, 10),
}
"""Encoder, kind of examples, whether the softmax is sampled, batch size of a rank."""


def run(communicator, case, checkpoints, epochs):
    encoder, kind, sampled, batch_size = CASES[case]
    histories, next_items = circle()
    examples = examples_of(histories, LENGTH, kind)
    feed = batches_of(examples, 2 * batch_size)

    def batches(epoch):
        for batch in feed(epoch):
            yield {name: tensor[communicator.rank :: 2] for name, tensor in batch.items()}

    users = np.arange(len(histories))[slice(None, 50) if communicator.rank == 0 else slice(50, None)]
    network = make_network(ITEMS, LENGTH, sparse=sampled, encoder=encoder, examples=kind)
    counts = torch.from_numpy(np.bincount(histories.items, minlength=ITEMS))
    progress = train(
        network,
        make_plan(epochs, len(examples.items) // (2 * batch_size), learning_rate=0.01, decay_epochs=EPOCHS),
        batches=batches,
        sampler=CandidateSampler(counts, batch_size, 16) if sampled else None,
        validation_set=validation_set(histories.take(users), np.array(next_items)[users].tolist()),
        communicator=communicator,
        checkpoints=checkpoints,
    )
    return network, progress


def main(out: Path) -> None:
    torch.set_num_threads(1)
    communicator = HorovodCommunicator()
    for case in CASES:
        full, progress = run(communicator, case, out / f"full-{case}", EPOCHS)
        run(communicator, case, out / f"resumed-{case}", 1)
        communicator.allreduce_sum(torch.zeros(1))  # wait until rank 0 has written its checkpoint
        resumed, _ = run(communicator, case, out / f"resumed-{case}", EPOCHS)
        entries = {key: [entry[key] for entry in progress.epochs] for key in ("loss", "ndcg")}
        for name, network in [("full", full), ("resumed", resumed)]:
            weights = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
            np.savez(out / f"{name}-{case}-{communicator.rank}.npz", **weights, **entries)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
