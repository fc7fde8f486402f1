"""The peers: each library's own best way to store samples and to feed them in shuffled batches.

Each class is what its user writes, and is read by benchmarks/peer_process.py:

    distribution   the library's name, as pip knows it; "" for what needs torch alone
    kept           what it reads: a folder beside the others, or "article" for the article's own
    workers        the numbers of workers (or threads) to try
    shuffle        of the "whole" epoch, or through what
    recipe         it is a way of our own, under whatever name: compared, but no peer
    convert        (root, target): from the article's folder, one sample at a time in memory where it can be
    batches        (workers): one epoch of (X, y), X a tensor 64 × shape, y 64 × int64, the last ones fewer

A library is imported where it is used: each process serves one peer.
"""

import json
import shutil
from functools import cache
from itertools import islice
from pathlib import Path

import numpy
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from feedgpu import PackedDataset, PrefetchLoader, load_notation, read_sample
from feedgpu.notation import file_of
from feedgpu.prepare import pack
from my_classes import Dataset

BATCH = 64
WORKERS = (0, 1, 2, 4)


@cache
def listed(root) -> tuple[list[str], dict[str, int]]:
    "All IDs of a dataset, in the order in which it is packed, and the labels"
    partition, labels = load_notation(root, suffix=None)
    return [ID for IDs in partition.values() for ID in IDs], labels


def samples(root):
    "All samples (X, y) of a dataset in the article's layout, one after the other"
    IDs, labels = listed(root)
    for ID in IDs:
        yield read_sample(file_of(ID, root)), labels[ID]


def in_groups(iterable, size: int):
    "Its elements in lists of `size`, the last one shorter"
    iterator = iter(iterable)
    while group := list(islice(iterator, size)):
        yield group


def labels_of(root) -> torch.Tensor:
    IDs, labels = listed(root)
    return torch.tensor([labels[ID] for ID in IDs])


def note(root, target):
    "Writes down number, shape and dtype of the samples, for formats that hold bytes"
    X, _ = next(samples(root))
    known = {"samples": len(listed(root)[0]), "shape": list(X.shape), "dtype": str(X.numpy().dtype)}
    (Path(target) / "note.json").write_text(json.dumps(known))
    return known


def noted(target) -> tuple[int, list[int], str]:
    return tuple(json.loads((Path(target) / "note.json").read_text()).values())


def whole(batch):
    "The collate_fn for batches that come whole"
    return batch


def mapped(target) -> tuple[torch.Tensor, torch.Tensor]:
    "The samples and labels of a pack as they lie on the disk: for libraries that bring no format"
    X = numpy.load(Path(target) / "samples.npy", mmap_mode="c")  # as if writable, which torch insists on
    return torch.from_numpy(X), torch.from_numpy(numpy.load(Path(target) / "labels.npy"))


class Article:
    distribution, kept, workers, shuffle, recipe = "", "article", WORKERS, "whole", False

    def __init__(self, root, target):
        self.dataset = Dataset(*listed(root), root)

    def batches(self, workers):
        return DataLoader(self.dataset, BATCH, shuffle=True, num_workers=workers)


class ArticleAlone(Article):
    workers = (0,)


class Packed:
    distribution, kept, workers, shuffle, recipe = "", "article/packed", (0,), "whole", False

    @staticmethod
    def convert(root, target):
        pack(root)

    def __init__(self, root, target):
        self.dataset = PackedDataset(*listed(root), root)

    def batches(self, workers):
        return DataLoader(self.dataset, BATCH, shuffle=True, num_workers=workers)


class Prefetched(Packed):
    def batches(self, workers):
        return PrefetchLoader(self.dataset, BATCH, shuffle=True)


class OneByOne(PackedDataset):
    "DataLoader gets samples, and collates them"

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class PackedOneByOne(Packed):
    workers, recipe = WORKERS, True

    def __init__(self, root, target):
        super().__init__(root, target)
        self.dataset.__class__ = OneByOne


class PackedIndexed:
    distribution, kept, workers, shuffle, recipe = "", "article/packed", (0,), "whole", True

    def __init__(self, root, target):
        self.X, self.y = mapped(target)

    def __len__(self):
        return len(self.y)

    def __getitems__(self, indices):
        indices = torch.tensor(indices)
        return self.X[indices], self.y[indices]

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)


class RawFiles:
    distribution, kept, workers, shuffle, recipe = "", "raw", WORKERS, "whole", True

    @staticmethod
    def convert(root, target):
        note(root, target)
        for i, (X, _) in enumerate(samples(root)):
            X.numpy().tofile(target / f"{i}.raw")
        numpy.save(target / "labels.npy", labels_of(root).numpy())

    def __init__(self, root, target):
        self.target, self.labels = target, numpy.load(target / "labels.npy").tolist()
        self.size, self.shape, self.dtype = noted(target)

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        X = numpy.fromfile(self.target / f"{i}.raw", self.dtype)
        return torch.from_numpy(X).view(*self.shape), self.labels[i]

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers)


class InMemory:
    distribution, kept, workers, shuffle, recipe = "", "article/packed", (0,), "whole", True

    def __init__(self, root, target):
        X, y = mapped(target)
        self.dataset = TensorDataset(X.clone(), y)

    def batches(self, workers):
        sampler = BatchSampler(RandomSampler(self.dataset), BATCH, drop_last=False)
        return DataLoader(self.dataset, sampler=sampler, batch_size=None)


class Lmdb:
    distribution, kept, workers, shuffle, recipe = "lmdb", "lmdb", WORKERS, "whole", False

    @staticmethod
    def convert(root, target):
        import lmdb

        note(root, target)
        environment = lmdb.open(str(target), map_size=1 << 40)
        for some in in_groups(enumerate(samples(root)), 1000):
            with environment.begin(write=True) as transaction:
                for i, (X, _) in some:
                    transaction.put(b"%09d" % i, X.numpy().tobytes())
        numpy.save(target / "labels.npy", labels_of(root).numpy())
        environment.close()

    def __init__(self, root, target):
        self.target, self.environment = target, None
        self.size, self.shape, dtype = noted(target)
        self.dtype = getattr(torch, dtype)
        self.labels = torch.from_numpy(numpy.load(target / "labels.npy"))

    def __len__(self):
        return self.size

    def __getitems__(self, indices):
        if self.environment is None:  # each worker opens its own
            import lmdb

            self.environment = lmdb.open(
                str(self.target), readonly=True, lock=False, readahead=False, meminit=False
            )
        with self.environment.begin(buffers=True) as transaction:
            values = bytearray().join(transaction.get(b"%09d" % i) for i in indices)
        return torch.frombuffer(values, dtype=self.dtype).view(-1, *self.shape), self.labels[indices]

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)


class H5py:
    distribution, kept, workers, shuffle, recipe = "h5py", "h5py", WORKERS, "whole", False

    @staticmethod
    def convert(root, target):
        import h5py

        known = note(root, target)
        with h5py.File(target / "samples.h5", "w") as file:
            X = file.create_dataset("X", (known["samples"], *known["shape"]), known["dtype"])
            for i, (x, _) in enumerate(samples(root)):
                X[i] = x.numpy()
            file["y"] = labels_of(root).numpy()

    def __init__(self, root, target):
        self.file, self.X = target / "samples.h5", None
        self.size, self.shape, self.dtype = noted(target)

    def __len__(self):
        return self.size

    def __getitems__(self, indices):
        if self.X is None:  # each worker opens its own
            import h5py

            file = h5py.File(self.file)
            self.X, self.y = file["X"], torch.from_numpy(file["y"][:])
        X = numpy.empty((len(indices), *self.shape), self.dtype)
        for place, i in enumerate(indices):  # a list of rows, X[sorted(indices)], is slower
            self.X.read_direct(X, numpy.s_[i], numpy.s_[place])
        return torch.from_numpy(X), self.y[indices]

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)


class Safetensors:
    distribution, kept, workers, shuffle, recipe = "safetensors", "safetensors", WORKERS, "whole", False

    @staticmethod
    def convert(root, target):
        from safetensors.torch import save_file

        IDs, labels = listed(root)  # its writer takes all tensors at once
        X = torch.stack([X for X, _ in samples(root)])
        save_file({"X": X, "y": labels_of(root)}, target / "samples.safetensors")

    def __init__(self, root, target):
        self.file, self.X = target / "samples.safetensors", None
        self.labels = labels_of(root)

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, indices):
        if self.X is None:  # each worker opens its own
            from safetensors import safe_open

            self.X = safe_open(self.file, "pt").get_slice("X")
        return torch.cat([self.X[i : i + 1] for i in indices]), self.labels[indices]

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)


class SafetensorsMapped(Safetensors):
    recipe = True

    def __init__(self, root, target):
        from safetensors import safe_open

        file = safe_open(target / "samples.safetensors", "pt")
        self.X, self.labels = file.get_tensor("X"), file.get_tensor("y")

    def __getitems__(self, indices):
        indices = torch.tensor(indices)
        return self.X.index_select(0, indices), self.labels[indices]


class OverThePack:
    "For libraries that bring no format"

    def __init__(self, root, target):
        self.X, self.y = mapped(target)

    def gather(self, indices):
        indices = torch.as_tensor(indices)
        return self.X.index_select(0, indices), self.y[indices]


class TorchdataNodes(OverThePack):
    # It brings no format. Without threads it only asks for what our recipe gathers: a row of its own.
    distribution, kept, workers, shuffle, recipe = "torchdata", "article/packed", (1, 2, 4), "whole", False

    def batches(self, workers):
        from torchdata import nodes

        order = nodes.SamplerWrapper(RandomSampler(self.y))
        order = nodes.Batcher(order, BATCH, drop_last=False)
        return nodes.Loader(nodes.ParallelMapper(order, self.gather, num_workers=workers, method="thread"))


class TorchdataNodesAlone(TorchdataNodes):
    workers, recipe = (0,), True


class Tensordict:
    distribution, kept, workers, shuffle, recipe = "tensordict", "tensordict", WORKERS, "whole", False

    @staticmethod
    def convert(root, target):
        from tensordict import TensorDict

        known = note(root, target)
        X = torch.empty((), dtype=getattr(torch, known["dtype"])).expand(known["samples"], *known["shape"])
        like = TensorDict({"X": X, "y": labels_of(root)}, [known["samples"]])
        stored = like.memmap_like(target / "samples")
        for i, (X, y) in enumerate(samples(root)):
            stored["X"][i], stored["y"][i] = X, y

    def __init__(self, root, target):
        from tensordict import TensorDict

        self.dataset = TensorDict.load_memmap(target / "samples")

    def batches(self, workers):
        loader = DataLoader(self.dataset, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)
        for batch in loader:
            yield batch["X"], batch["y"]


def in_arrow(root, target):
    "The schema of the samples, each a list of fixed length, and tables of 256 of them"
    import pyarrow

    known = note(root, target)
    of = pyarrow.list_(pyarrow.from_numpy_dtype(known["dtype"]), numpy.prod(known["shape"]).item())
    schema = pyarrow.schema({"X": of, "y": pyarrow.int64()})

    def tables():
        for some in in_groups(samples(root), 256):
            values = numpy.concatenate([x.numpy().ravel() for x, _ in some])
            X = pyarrow.FixedSizeListArray.from_arrays(values, type=of)
            yield pyarrow.record_batch([X, [y for _, y in some]], schema=schema)

    return schema, tables()


class Lance:
    # It reads in threads of its own, and does not survive a fork.
    distribution, kept, workers, shuffle, recipe = "pylance", "lance", (0,), "whole", False

    @staticmethod
    def convert(root, target):
        import lance
        import pyarrow

        schema, batches = in_arrow(root, target)
        reader = pyarrow.RecordBatchReader.from_batches(schema, batches)
        lance.write_dataset(reader, str(target / "samples.lance"))

    def __init__(self, root, target):
        import lance

        self.dataset = lance.dataset(str(target / "samples.lance"))
        self.size, self.shape, _ = noted(target)

    def __len__(self):
        return self.size

    def __getitems__(self, indices):
        table = self.dataset.take(indices).combine_chunks()
        X = table["X"].chunk(0).flatten().to_numpy().reshape(-1, *self.shape)
        return torch.tensor(X), torch.tensor(table["y"].to_numpy())

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)


class HuggingFace:
    distribution, kept, workers, shuffle, recipe = "datasets", "datasets", WORKERS, "whole", False

    @staticmethod
    def convert(root, target):
        import datasets
        import pyarrow.parquet

        schema, batches = in_arrow(root, target)
        file = target / "samples.parquet"  # from Python's rows it takes 50 times as long
        with pyarrow.parquet.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
            for batch in batches:
                writer.write_batch(batch)
        made = datasets.Dataset.from_parquet(str(file), cache_dir=str(target / "cache"))
        made.save_to_disk(target / "samples")
        shutil.rmtree(target / "cache")
        file.unlink()

    def __init__(self, root, target):
        import datasets

        self.dataset = datasets.load_from_disk(target / "samples").with_format("arrow")
        self.size, self.shape, _ = noted(target)

    def __len__(self):
        return self.size

    def __getitems__(self, indices):
        table = self.dataset[indices].combine_chunks()
        X = table["X"].chunk(0).flatten().to_numpy().reshape(-1, *self.shape)
        return torch.tensor(X), torch.tensor(table["y"].to_numpy())

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)


class LitData:
    distribution, kept, workers, shuffle, recipe = "litdata", "litdata", WORKERS, "whole", False

    @staticmethod
    def convert(root, target):
        import litdata

        IDs, labels = listed(root)
        rows = [(str(file_of(ID, root)), labels[ID]) for ID in IDs]
        litdata.optimize(
            read_row, rows, str(target), chunk_bytes="64MB", num_workers=1, mode="overwrite", verbose=False
        )

    def __init__(self, root, target):
        import litdata

        self.loader = litdata.StreamingDataLoader
        self.dataset = litdata.StreamingDataset(str(target), shuffle=True)

    def batches(self, workers):
        return self.loader(self.dataset, batch_size=BATCH, num_workers=workers)


def read_row(row):
    "A function of a module, for the processes that LitData starts"
    file, y = row
    return read_sample(Path(file)), y


class WebDataset:
    distribution, kept, workers, recipe = "webdataset", "webdataset", WORKERS, False
    shuffle = "buffer of 1,000"

    @staticmethod
    def convert(root, target):
        import webdataset

        with webdataset.ShardWriter(str(target / "%05d.tar"), maxsize=64e6, maxcount=1000, verbose=0) as out:
            for i, (X, y) in enumerate(samples(root)):
                out.write({"__key__": f"{i:09}", "npy": X.numpy(), "cls": y})

    def __init__(self, root, target):
        import webdataset

        self.shards = sorted(map(str, target.glob("*.tar")))
        self.webdataset = webdataset

    def batches(self, workers):
        dataset = self.webdataset.WebDataset(self.shards, shardshuffle=len(self.shards), empty_check=False)
        dataset = dataset.shuffle(1000).decode().to_tuple("npy", "cls").batched(BATCH)
        return self.webdataset.WebLoader(dataset, batch_size=None, num_workers=workers)


class Spdl(OverThePack):
    distribution, kept, workers, shuffle, recipe = "spdl-core", "article/packed", (1, 2, 4), "whole", False

    def batches(self, workers):
        from spdl.dataloader import DataLoader

        order = BatchSampler(RandomSampler(self.y), BATCH, drop_last=False)
        return DataLoader(order, preprocessor=self.gather, num_threads=workers)


class Grain(OverThePack):
    # It does not shuffle here: its own shuffle asks for one sample after the other, a tenth as fast. Its
    # processes start anew for each epoch, which takes seconds. Without threads: as in torchdata.nodes.
    distribution, kept, workers, shuffle, recipe = "grain", "article/packed", (1, 2, 4), "whole", False

    def __init__(self, root, target):
        import grain

        super().__init__(root, target)
        self.grain = grain

    def batches(self, workers):
        order = self.grain.MapDataset.source(torch.randperm(len(self.y)).split(BATCH))
        how = self.grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
        return order.map(self.gather).to_iter_dataset(how)


class GrainAlone(Grain):
    workers, recipe = (0,), True


class GrainArrayRecord(Grain):
    # The format that it recommends
    kept, workers = "array_record", WORKERS

    @staticmethod
    def convert(root, target):
        from array_record.python.array_record_module import ArrayRecordWriter

        note(root, target)
        writer = ArrayRecordWriter(str(target / "samples.array_record"), "group_size:1,uncompressed")
        for X, _ in samples(root):
            writer.write(X.numpy().tobytes())
        writer.close()
        numpy.save(target / "labels.npy", labels_of(root).numpy())

    def __init__(self, root, target):
        import grain

        self.grain = grain
        self.records = grain.sources.ArrayRecordDataSource(str(target / "samples.array_record"))
        _, self.shape, dtype = noted(target)
        self.dtype = getattr(torch, dtype)
        self.y = torch.from_numpy(numpy.load(target / "labels.npy"))

    def gather(self, indices):
        values = bytearray().join(self.records.__getitems__(indices.tolist()))
        return torch.frombuffer(values, dtype=self.dtype).view(-1, *self.shape), self.y[indices]


class MosaicStreaming:
    distribution, kept, workers, recipe = "mosaicml-streaming", "mosaicml", WORKERS, False
    shuffle = "whole"

    @staticmethod
    def convert(root, target):
        streaming = import_streaming()
        known = note(root, target)
        X = f"ndarray:{known['dtype']}:{','.join(map(str, known['shape']))}"
        with streaming.MDSWriter(out=str(target / "samples"), columns={"X": X, "y": "int"}) as out:
            for X, y in samples(root):
                out.write({"X": X.numpy(), "y": y})

    def __init__(self, root, target):
        self.streaming, self.folder = import_streaming(), str(target / "samples")

    def batches(self, workers):
        # A new one for each epoch: its processes wait for each other for ever after an epoch that was left
        # early, or with another number of workers.
        self.streaming.base.util.clean_stale_shared_memory()
        dataset = self.streaming.StreamingDataset(
            local=self.folder, shuffle=True, batch_size=BATCH, num_canonical_nodes=1
        )
        for batch in DataLoader(dataset, BATCH, num_workers=workers):
            yield batch["X"], batch["y"]


@cache
def import_streaming():
    "It imports torchvision, which beside a torch for the CPU misses operators that nobody has named."
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")
    import streaming

    return streaming


# {as it is called in the tables: its class}; the first is what all are compared with
PEERS = {
    "the article, best workers": Article,
    "the article, 0 workers": ArticleAlone,
    "PackedDataset in DataLoader": Packed,
    "PrefetchLoader": Prefetched,
    "packed, sample by sample": PackedOneByOne,
    "packed, x[indices]": PackedIndexed,
    "one raw file a sample": RawFiles,
    "TensorDataset in memory": InMemory,
    "LMDB": Lmdb,
    "h5py": H5py,
    "safetensors": Safetensors,
    "safetensors, mapped": SafetensorsMapped,
    "torchdata.nodes, threads": TorchdataNodes,
    "torchdata.nodes, no thread": TorchdataNodesAlone,
    "tensordict": Tensordict,
    "Lance": Lance,
    "HF datasets": HuggingFace,
    "LitData": LitData,
    "WebDataset": WebDataset,
    "SPDL": Spdl,
    "Grain, threads": Grain,
    "Grain, no thread": GrainAlone,
    "Grain, ArrayRecord": GrainArrayRecord,
    "MosaicML Streaming": MosaicStreaming,
}
