"""Trains a network on a dataset of any size, read from a folder while the network learns.

    python3 pytorch_script.py                            # handwritten digits, written into data/ at first
    python3 pytorch_script.py --data my_data             # your own, in the layout of data/README.md
    python3 pytorch_script.py --packed                   # what `feedgpu pack` made of it
    python3 pytorch_script.py --resume --max-epochs 20   # go on where the last run stopped

The script of Afshine and Shervine Amidi's article, with a model in place of its [...]. To make it yours, copy
it with my_classes.py and change Net and the paragraphs "Datasets" and "Model". Needs the package feedgpu.
"""

import argparse
import os
import signal
import sys
import warnings
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's idle threads leave the CPUs to the workers

import torch
from torch import nn

from feedgpu import (
    DatasetError,
    EpochSampler,
    Meter,
    PackedDataset,
    PrefetchLoader,
    available_cpus,
    load_notation,
    save_whole,
)
from feedgpu.classes import tensor_with_a_class
from feedgpu.outside import opened, wanting
from feedgpu.rooms import MissingExtra
from feedgpu.system import ctrl_c_heard, progress
from my_classes import Dataset

HERE = Path(__file__).parent
SETTINGS = {"batch_size": 64, "learning_rate": 0.003, "seed": 0}  # a resumed run keeps those it began with


class Net(nn.Module):
    "From N×channels×H×W, 8×8 or larger, uint8 (scaled by 255) or floats, to N×classes scores, float32"

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential()
        for filters, stride in ((32, 1), (64, 2), (128, 1)):
            self.layers.append(nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False))
            self.layers.extend([nn.BatchNorm2d(filters), nn.ReLU()])
            channels = filters
        self.layers.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)])

    def forward(self, X):
        return self.layers(X.float() / 255 if X.dtype == torch.uint8 else X.float())


def main(args):
    # CUDA for PyTorch
    use_cuda = args.device.type == "cuda"
    torch.backends.cudnn.benchmark = True  # every batch has one size: let cuDNN look for its fastest kernels

    # Parameters
    workers = 0 if args.packed else args.num_workers
    print(f"Device {args.device}, {workers} workers; this process has {available_cpus()} CPUs.")
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than CPUs: just said
    start = load_checkpoint(args.checkpoint) if args.resume else {}
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    settings = SETTINGS | {name: start[name] for name in SETTINGS if start} | given
    params = {
        "batch_size": settings["batch_size"],
        "num_workers": args.num_workers,
        "persistent_workers": args.num_workers > 0,
        "pin_memory": use_cuda,
        "generator": torch.Generator(),  # of the workers' seeds; without it they come from the model's
    }
    make_set, make_generator = Dataset, torch.utils.data.DataLoader
    if args.packed:
        make_set, make_generator = PackedDataset, PrefetchLoader
        params["device"] = args.device if use_cuda else "cpu"

    # Datasets
    if args.data is None:
        args.data = HERE / "data"
        if not (args.data / "partition.json").exists():
            from feedgpu.prepare import digits, write

            print(f"No dataset in {args.data} yet: writing scikit-learn's handwritten digits.")
            write(digits(), args.data)
    partition, labels = load_notation(args.data, None if args.packed else ".pt")
    training_set = make_set(partition["train"], labels, args.data)
    validation_set = make_set(partition["validation"], labels, args.data)
    sample = training_set[0]
    X = tensor_with_a_class(sample, labels, args.data)
    is_known = X.dtype == torch.uint8 or X.is_floating_point()
    if X.dim() != 3 or len(X) < 1 or min(X.shape[1:]) < 8 or not is_known:
        found = f"sample {partition['train'][0]!r} is {X.dtype} of shape {tuple(X.shape)}"
        raise DatasetError(f"{found}: Net takes uint8 or floats of channels×height×width, 8×8 or larger")
    training_set.like = validation_set.like = partition["train"][0], sample

    # Generators
    training_sampler = EpochSampler(len(training_set), settings["seed"])
    training_generator = make_generator(training_set, sampler=training_sampler, **params)
    validation_generator = make_generator(validation_set, **params)

    # Model
    torch.manual_seed(settings["seed"])
    sizes = [len(X), 1 + max(labels[ID] for IDs in partition.values() for ID in IDs)]  # channels, classes
    model = Net(*sizes).to(args.device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    history = start.get("history", [])
    if start:
        if start["sizes"] != sizes:
            raise DatasetError(f"{args.checkpoint} is for {start['sizes']} channels and classes, not {sizes}")
        try:
            model.load_state_dict(start["model"])
            optimizer.load_state_dict(start["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            sys.exit(f"{args.checkpoint} is of another Net or optimizer than those of this script.")
        print(f"Resuming after epoch {len(history)}.")

    # Loop over epochs
    training_sampler.set_epoch(first_epoch := len(history))
    params["generator"].manual_seed(training_sampler.epoch_seed)  # of what workers draw, if they draw
    print("  epoch   training loss, accuracy   validation loss, accuracy   samples/s   waiting for data")
    for epoch in range(first_epoch, args.max_epochs):
        training_sampler.set_epoch(epoch)
        torch.manual_seed(training_sampler.epoch_seed)  # a resumed run draws what a whole one does
        optimizer.param_groups[0]["lr"] = settings["learning_rate"] * 0.85**epoch

        # Training
        model.train()
        meter, totals = Meter(args.device), torch.zeros(3, device=args.device)
        bar = f"epoch {epoch + 1}", len(training_generator)
        for local_batch, local_labels in progress(meter(training_generator), *bar):
            # Transfer to GPU
            local_batch = local_batch.to(args.device, non_blocking=use_cuda)
            local_labels = local_labels.to(args.device, non_blocking=use_cuda)

            # Model computations
            outputs = model(local_batch)
            loss = criterion(outputs, local_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            totals += tally(loss, outputs, local_labels)

        # Validation
        model.eval()
        validation_totals = torch.zeros(3, device=args.device)
        with torch.inference_mode():
            for local_batch, local_labels in Meter(args.device)(validation_generator):
                # Transfer to GPU
                local_batch = local_batch.to(args.device, non_blocking=use_cuda)
                local_labels = local_labels.to(args.device, non_blocking=use_cuda)

                # Model computations
                outputs = model(local_batch)
                validation_totals += tally(criterion(outputs, local_labels), outputs, local_labels)

        # Report
        training, validation = [(sums[:2] / sums[2]).tolist() for sums in (totals, validation_totals)]
        history.append({"training": training, "validation": validation})  # [loss, accuracy] of each
        history[-1] |= {"seconds": meter.seconds, "waiting": sum(meter.waiting)}
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save(settings | states | {"sizes": sizes, "history": history}, args.checkpoint)
        print(f"{epoch + 1:3}/{args.max_epochs:<3} {training[0]:15.4f} {training[1]:9.1%}", end="")
        print(f"{validation[0]:17.4f} {validation[1]:9.1%}", end="")
        print(f"{len(training_set) / meter.seconds:12,.0f} {meter.waiting_share:18.0%}")

    accuracies = [past["validation"][1] for past in history]
    print(f"Validation accuracy {accuracies[-1]:.1%} in the last epoch, {max(accuracies):.1%} at best.")
    if run := history[first_epoch:]:
        share = sum(past["waiting"] for past in run) / sum(past["seconds"] for past in run)
        print(f"The model waited for data in {share:.0%} of the training time: {advice(share, args)}")
    print(f"Checkpoint: {args.checkpoint}")


def tally(loss, outputs, local_labels):
    "A batch's sums of losses, right answers and samples. On the device: to read them is to wait for it."
    right = (outputs.argmax(1) == local_labels).sum()
    return torch.stack([loss.detach() * len(local_labels), right, torch.full_like(right, len(local_labels))])


def save(checkpoint, file):
    "Keeps the checkpoint of an earlier run under another name"
    try:
        aside = save_whole(checkpoint, file, keep=len(checkpoint["history"]) == 1)
    except OSError as error:
        sys.exit(f"The checkpoint {file} could not be written: {error.strerror or error}")
    if aside:
        print(f"The checkpoint of an earlier run is now {aside}.")


def load_checkpoint(file):
    try:
        with opened(file) as stream:
            start = torch.load(stream, map_location="cpu", weights_only=True)
        start = {name: start[name] for name in (*SETTINGS, "sizes", "model", "optimizer", "history")}
        sum(past["waiting"] + past["seconds"] + sum(past["validation"]) for past in start["history"])
        return start
    except FileNotFoundError:
        sys.exit(f"There is nothing to resume: no file {file}.")
    except Exception as error:  # torch.load raises many kinds, and all mean the same
        if what := wanting(error):
            sys.exit(f"{file} could not be read for want of {what}.")
        sys.exit(f"{file} is damaged, or not a checkpoint of this script.")


def advice(share, args):
    if share < 0.05 or args.packed:
        return "it is well fed." if share < 0.05 else "its steps are short, or the disk is slow."
    fewer = args.num_workers >= available_cpus()
    workers = "fewer workers, as all CPUs are taken" if fewer else f"--num-workers {available_cpus()}"
    return f"compare the samples/s with {workers}; or pack the data (see --help) and train with --packed."


def parse():
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--data", type=Path, help="folder of the dataset (data, beside this script)")
    add("--max-epochs", type=int, default=12, help="(12)")
    add("--batch-size", type=int, help="(64)")
    add("--num-workers", type=int, default=min(6, available_cpus()), help="processes (CPUs, at most 6)")
    add("--packed", action="store_true", help="read what `feedgpu pack` packed")
    add("--learning-rate", type=float, help="at first; ×0.85 each epoch (0.003)")
    add("--seed", type=int, help="of the weights and of the order of the samples (0)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(auto)")
    add("--checkpoint", type=Path, default=HERE / "checkpoint.pt", help="(checkpoint.pt, beside this script)")
    add("--resume", action="store_true", help="go on from the checkpoint, with its settings")
    args = parser.parse_args()
    least = {"max_epochs": 1, "batch_size": 1, "num_workers": 0, "learning_rate": 1e-9, "seed": 0}
    for name, value in vars(args).items():
        if name in least and value is not None and not least[name] <= value < 2**63:
            parser.error(f"--{name.replace('_', '-')}: {value} is not a number of at least {least[name]}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not there.get(args.device, True):
        parser.error(f"argument --device: no {args.device} here, or none that this build of torch can use")
    if not args.checkpoint.parent.is_dir() or args.checkpoint.is_dir():
        parser.error(f"argument --checkpoint: {args.checkpoint} is not a file in a folder that exists")
    if args.checkpoint.is_symlink():
        parser.error(f"argument --checkpoint: {args.checkpoint} is a link: name the file that it leads to")
    args.device = torch.device(next(filter(there.get, there)) if args.device == "auto" else args.device)
    return args


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    args = parse()
    import torch._dynamo  # noqa: F401  which Adam would import, where a Ctrl-C could be lost

    try:
        with ctrl_c_heard():
            main(args)
    except (DatasetError, MissingExtra) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        kept = f"{args.checkpoint} is whole" if args.checkpoint.exists() else "no epoch was complete"
        print(f"Stopped by Ctrl-C: {kept}.", file=sys.stderr)
        sys.exit(130)
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error) and not wanting(error):
            raise
        what = wanting(error) or "memory: try fewer workers or smaller batches, or a larger /dev/shm"
        sys.exit(f"A worker was killed, most often for want of {what}.")
