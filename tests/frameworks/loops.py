"""A training of two epochs in one of the frameworks: python loops.py FRAMEWORK ROOT OUT SAMPLER

ROOT: a pack of samples whose label is their number. SAMPLER: "shared", a share for each process, or "whole".
Each process writes OUT/<rank>.json: {"epochs": the labels that its model saw}, or {"error": a sentence}.
"""

import json
import os
import sys
from pathlib import Path

import torch

from feedgpu import EpochSampler, PackedDataset, PrefetchLoader, load_notation

RANK, RANKS = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
EPOCHS = 2
seen: list[list[int]] = []


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, X, labels):
        if self.training:
            seen[-1].extend(labels.tolist())
        return {"loss": (self.layer(X).squeeze(1) - labels.float()).square().mean()}


def loaders(root, kind):
    partition, labels = load_notation(root, suffix=None)
    training_set = PackedDataset(partition["train"], labels, root)
    shares = {"rank": RANK, "ranks": RANKS} if kind == "shared" else {}
    sampler = EpochSampler(len(training_set), 3, **shares)
    validation_set = PackedDataset(partition["validation"], labels, root)
    return (
        PrefetchLoader(training_set, 4, sampler=sampler, collate_fn=named),
        PrefetchLoader(validation_set, 2, sampler=range(len(validation_set)), collate_fn=named),
    )


def named(samples):
    X, labels = torch.utils.data.default_collate(samples)
    return {"X": X, "labels": labels}


def plain(training, validation):
    if RANKS > 1:
        torch.distributed.init_process_group("gloo")
    model = Model()
    if RANKS > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    for epoch in range(EPOCHS):
        training.set_epoch(epoch)
        seen.append([])
        for batch in training:
            model(**batch)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()


def accelerate(training, validation):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    model, optimizer, training = accelerator.prepare(model, optimizer, training)
    for epoch in range(EPOCHS):
        training.set_epoch(epoch)
        seen.append([])
        for batch in training:
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()


def lightning(training, validation):
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def on_train_epoch_start(self):
            seen.append([])

        def training_step(self, batch):
            return self.model(**batch)["loss"]

        def validation_step(self, batch):
            self.log("loss", self.model(**batch)["loss"], sync_dist=True)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-4)

    several = {"strategy": "ddp", "devices": RANKS} if RANKS > 1 else {"devices": 1}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_epochs=EPOCHS, num_sanity_val_steps=0, **several, **quiet)
    trainer.fit(Module(), training, validation)


def trainer(training, validation):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Own(Trainer):
        def get_train_dataloader(self):
            return self.accelerator.prepare(training)

    class Noted(TrainerCallback):
        def on_epoch_begin(self, *how, **more):
            seen.append([])

    arguments = TrainingArguments(
        "out-of-trainer",
        num_train_epochs=EPOCHS,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    Own(Model(), arguments, train_dataset=training.dataset, callbacks=[Noted()]).train()


def main():
    framework, root, out, kind = sys.argv[1:]
    torch.set_num_threads(1)
    os.chdir(out)
    try:
        globals()[framework](*loaders(root, kind))
        found = {"epochs": seen}
    except RuntimeError as error:
        found = {"error": str(error)}
    (Path(out) / f"{RANK}.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
