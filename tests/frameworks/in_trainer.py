"""Hugging Face's Trainer, with get_train_dataloader and get_eval_dataloader returning a PrefetchLoader."""

from pathlib import Path

import torch
from samples import BATCH, SEED, SIZE, Net, loader, shared
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainerCallback, TrainingArguments

from feedgpu import EpochSampler


def named(samples):
    "A batch as Hugging Face's models take it"
    x, y = torch.utils.data.default_collate(list(samples))
    return {"x": x, "labels": y}


class Seeing(torch.nn.Module):
    "Notes the samples that it gets, epoch by epoch"

    def __init__(self):
        super().__init__()
        self.net, self.trained, self.validated = Net(), [], []

    def forward(self, x, labels):
        (self.trained[-1] if self.training else self.validated).extend(labels.tolist())
        logits = self.net(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class Begins(TrainerCallback):
    def on_epoch_begin(self, args, state, control, model=None, **of):
        model.trained.append([])


class Fed(Trainer):
    "A Trainer that is fed by our loaders"

    def __init__(self, model, train, validation=None, **how):
        how = {"output_dir": "out", "num_train_epochs": 2, "save_strategy": "no", "report_to": []} | how
        quiet = {"use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}
        arguments = TrainingArguments(per_device_train_batch_size=BATCH, **quiet | how)
        super().__init__(model, arguments, train_dataset=train.dataset, callbacks=[Begins()])
        self.train_loader, self.validation_loader = train, validation

    def get_train_dataloader(self):
        return self.train_loader

    def get_eval_dataloader(self, eval_dataset=None):
        return self.validation_loader


def fit(train, **how):
    model = Seeing()
    Fed(model, train, **how).train()
    return model


def a_share_each(root, rank, ranks):
    model = fit(shared(root, ranks, rank, collate_fn=named))
    return {"seen": model.trained, "weights": [X.tolist() for X in model.parameters()]}


def whole(root, rank, ranks):
    return {"seen": fit(loader(root, sampler=EpochSampler(SIZE, SEED), collate_fn=named)).trained}


def whole_shuffled(root, rank, ranks):
    return {"seen": fit(loader(root, shuffle=True, collate_fn=named)).trained}


def evaluated(root, rank, ranks):
    model = Seeing()
    train, validation = (
        shared(root, ranks, rank, part, collate_fn=named) for part in ("train", "validation")
    )
    found = Fed(model, train, validation).evaluate()
    return {"seen": model.validated, "loss": found["eval_loss"]}


def evaluated_whole(root, rank, ranks):
    train = shared(root, ranks, rank, collate_fn=named)
    Fed(Seeing(), train, loader(root, "validation", collate_fn=named)).evaluate()


def accumulated(root, rank, ranks):
    return fit(shared(root, ranks, rank, collate_fn=named), gradient_accumulation_steps=2).trained


def resumed(root, rank, ranks):
    "Stopped after two batches of the second epoch, and resumed from there: the rest of it"
    out = Path(root).parent / f"trainer-{ranks}"
    steps = len(shared(root, ranks, rank)) + 2
    how = {"output_dir": str(out), "save_strategy": "steps", "save_steps": steps}
    fit(shared(root, ranks, rank, collate_fn=named), max_steps=steps, **how)
    model = Seeing()
    again = Fed(model, shared(root, ranks, rank, collate_fn=named), **how)
    again.train(resume_from_checkpoint=str(out / f"checkpoint-{steps}"))
    return model.trained


SCENES = [a_share_each, whole, whole_shuffled, evaluated, evaluated_whole, accumulated, resumed]
