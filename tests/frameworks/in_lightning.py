"""Lightning: Trainer.fit and the loops beside it, over PrefetchLoader; with two processes by strategy ddp."""

import os
import tempfile
import warnings
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch import LightningModule, Trainer, seed_everything
from samples import BATCH, SEED, SIZE, Net, loader, rows, shared
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from feedgpu import EpochSampler, SimilarLengths

warnings.filterwarnings("ignore")


class Seen(LightningModule):
    "Notes the samples that it gets, epoch by epoch"

    def __init__(self, train=None):
        super().__init__()
        self.net, self.train_loader = Net(), train
        self.trained, self.validated, self.predicted = [], [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

    def on_train_epoch_start(self):
        self.trained.append([])

    def on_validation_epoch_start(self):
        self.validated.append([])

    def training_step(self, batch, number):
        x, y = batch
        self.trained[-1] += y.tolist()
        return cross_entropy(self.net(x), y)

    def validation_step(self, batch, number):
        self.validated[-1] += batch[1].tolist()

    def predict_step(self, batch, number):
        self.predicted += batch[1].tolist()


class WithHook(Seen):
    "Makes its loader itself: Lightning then notes how each DataLoader is made"

    def train_dataloader(self):
        return self.train_loader()


def trainer(ranks, **how):
    strategy = "ddp" if ranks > 1 else "auto"
    quiet = dict.fromkeys(
        ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False
    )
    folder = {"default_root_dir": tempfile.gettempdir()}
    quiet |= folder | {"accelerator": "cpu", "devices": ranks, "strategy": strategy, "max_epochs": 2}
    return Trainer(**quiet | {"num_sanity_val_steps": 0} | how)


def fit(ranks, train, validation=None, model=None, **how):
    model = model or Seen()
    trainer(ranks, **how).fit(model, train, validation)
    return model


def a_share_each(root, rank, ranks):
    validation = shared(root, ranks, rank, "validation")
    model = fit(ranks, shared(root, ranks, rank), validation)
    weights = [X.tolist() for X in model.parameters()]
    return {"trained": model.trained, "validated": model.validated, "weights": weights}


def a_sampler_that_lightning_wrapped(root, rank, ranks):
    sampler = EpochSampler(SIZE, SEED)
    if ranks > 1:
        sampler = DistributedSamplerWrapper(sampler, ranks, rank, shuffle=False)
    return fit(ranks, loader(root, sampler=sampler)).trained


def similar_lengths(root, rank, ranks):
    share = {"rank": rank, "ranks": ranks} if ranks > 1 else {}
    order = SimilarLengths([i % 5 for i in range(SIZE)], BATCH, **share)
    return fit(ranks, loader(root, batch_sampler=order)).trained


def made_in_the_hook(root, rank, ranks):
    return fit(ranks, None, model=WithHook(lambda: shared(root, ranks, rank))).trained


def torchs_loader(root, rank, ranks):
    "For comparison: Lightning makes it anew, with a DistributedSamplerWrapper around our sampler"
    return fit(ranks, DataLoader(rows(root), BATCH, sampler=EpochSampler(SIZE, SEED))).trained


def shared_twice(root, rank, ranks):
    "What not to do: Lightning shares out what a DataLoader's sampler has shared out already"
    share = {"rank": rank, "ranks": ranks} if ranks > 1 else {}
    return fit(ranks, DataLoader(rows(root), BATCH, sampler=EpochSampler(SIZE, SEED, **share))).trained


def whole(root, rank, ranks):
    return fit(ranks, loader(root, sampler=EpochSampler(SIZE, SEED))).trained


def whole_made_in_the_hook(root, rank, ranks):
    return fit(ranks, None, model=WithHook(lambda: loader(root, shuffle=True))).trained


def whole_validation(root, rank, ranks):
    return fit(ranks, shared(root, ranks, rank), loader(root, "validation")).validated


def some_batches(root, rank, ranks):
    return fit(ranks, shared(root, ranks, rank), limit_train_batches=2).trained


def predicted(root, rank, ranks):
    model = Seen()
    trainer(ranks).predict(model, shared(root, ranks, rank, "validation"))
    return model.predicted


def seeded_workers(root, rank, ranks):
    "seed_everything(workers=True) sets the worker_init_fn of each loader"
    seed_everything(3, workers=True, verbose=False)
    try:
        return fit(ranks, shared(root, ranks, rank)).trained
    finally:
        os.environ.pop("PL_SEED_WORKERS")
        os.environ.pop("PL_GLOBAL_SEED")


def overfitted(root, rank, ranks):
    "overfit_batches takes the order away, by making the loader anew"
    return fit(ranks, shared(root, ranks, rank), overfit_batches=2).trained


def overfitted_in_order(root, rank, ranks):
    return fit(ranks, loader(root), overfit_batches=2).trained


def resumed(root, rank, ranks):
    "Two epochs, of which the second is trained by a Trainer that goes on from a checkpoint of the first"
    file, one = Path(root).parent / f"{ranks}.ckpt", trainer(ranks, max_epochs=1)
    one.fit(Seen(), shared(root, ranks, rank))
    one.save_checkpoint(file)
    model = Seen()
    trainer(ranks).fit(model, shared(root, ranks, rank), ckpt_path=file, weights_only=True)
    return model.trained


def fabric(root, rank, ranks):
    batches = shared(root, ranks, rank)
    lightning.Fabric(accelerator="cpu", devices=1).setup_dataloaders(batches)


SHARING = [a_share_each, a_sampler_that_lightning_wrapped, similar_lengths, made_in_the_hook, torchs_loader]
WHOLE = [whole, whole_made_in_the_hook, whole_validation]
BESIDE = [some_batches, predicted, seeded_workers, resumed]
NOT_OURS = [shared_twice, overfitted, overfitted_in_order, fabric]
SCENES = [*SHARING, *WHOLE, *BESIDE, *NOT_OURS]
