"""The peers that decode images: each library's own way to keep JPEGs, to decode them and to batch them.

Read by benchmarks/image_process.py as benchmarks/peer_loaders.py says, with two lines more in each class:
`decoder`, by which it decodes and scales, and `antialiased`, whether that takes every pixel into account. An
epoch yields X, uint8 64×3×224×224. Where a class makes its own batches, colours of a pixel lie side by side
in them (channels last), which spares a copy of each image; as it does in ours.
"""

import json
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy
import torch
from peer_loaders import BATCH, WORKERS, import_streaming, in_groups, listed, whole
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from feedgpu import PackedDataset, PrefetchLoader
from feedgpu import decode as decoding
from feedgpu.images import ImageDataset
from feedgpu.prepare import pack

SIZE = 224, 224
THREADS = (1, 2, 4)


def pillow(data: bytes) -> numpy.ndarray:
    image = Image.open(BytesIO(data)).convert("RGB")
    return numpy.array(image.resize(SIZE[::-1], Image.Resampling.BILINEAR))


def opencv(data: bytes) -> numpy.ndarray:
    pixels = cv2().imdecode(numpy.frombuffer(data, numpy.uint8), cv2().IMREAD_COLOR_RGB)
    return cv2().resize(pixels, SIZE[::-1], interpolation=cv2().INTER_LINEAR)


def simplejpeg_opencv(data: bytes) -> numpy.ndarray:
    return cv2().resize(simplejpeg().decode_jpeg(data), SIZE[::-1], interpolation=cv2().INTER_LINEAR)


@cache
def cv2():
    import cv2

    cv2.setNumThreads(1)  # what runs at the same time are workers, or threads of ours
    return cv2


@cache
def simplejpeg():
    import simplejpeg

    return simplejpeg


def jpegs(root):
    "(bytes of the file, label) of all samples"
    IDs, labels = listed(root)
    for ID in IDs:
        yield (root / ID).read_bytes(), labels[ID]


def channels_last(batches):
    "Batches as they are stacked, N×height×width×3, seen as N×3×height×width"
    for X, y in batches:
        yield X.permute(0, 3, 1, 2), y


class Pattern:
    "As everybody writes it"

    distribution, kept, workers, shuffle, recipe = "", "article", WORKERS, "whole", False
    decoder, antialiased = "Pillow", True
    decode = staticmethod(pillow)

    def __init__(self, root, target):
        self.root = root
        self.list_IDs, self.labels = listed(root)

    def __len__(self):
        return len(self.list_IDs)

    def __getitem__(self, index):
        ID = self.list_IDs[index]
        X = self.decode((self.root / ID).read_bytes())
        return torch.from_numpy(X).permute(2, 0, 1), self.labels[ID]

    def batches(self, workers):
        return DataLoader(self, BATCH, shuffle=True, num_workers=workers)


class PatternSimplejpeg(Pattern):
    distribution, recipe, decoder, antialiased = "simplejpeg", True, "simplejpeg, OpenCV", False
    decode = staticmethod(simplejpeg_opencv)


class PatternOpencv(Pattern):
    distribution, recipe = "opencv-python-headless", True
    decoder, antialiased = "OpenCV", False
    decode = staticmethod(opencv)


class Threads(Pattern):
    "Each thread makes a batch, and the next ones are under way"

    workers, recipe = THREADS, True

    def batch(self, indices):
        X, y = torch.empty(len(indices), *SIZE, 3, dtype=torch.uint8), []
        for pixels, index in zip(X.numpy(), indices, strict=True):
            ID = self.list_IDs[index]
            pixels[:] = self.decode((self.root / ID).read_bytes())
            y.append(self.labels[ID])
        return X.permute(0, 3, 1, 2), torch.tensor(y)

    def batches(self, workers):
        with ThreadPoolExecutor(workers) as pool:
            pending = deque()
            for indices in BatchSampler(RandomSampler(self), BATCH, drop_last=False):
                pending.append(pool.submit(self.batch, indices))
                if len(pending) > workers + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


class ThreadsSimplejpeg(Threads):
    distribution, decoder, antialiased = "simplejpeg", "simplejpeg, OpenCV", False
    decode = staticmethod(simplejpeg_opencv)


class ThreadsOpencv(Threads):
    distribution, decoder, antialiased = "opencv-python-headless", "OpenCV", False
    decode = staticmethod(opencv)


class Ours:
    distribution, kept, workers, shuffle, recipe = "", "article", WORKERS, "whole", False
    decoder, antialiased = "simplejpeg, torch", True

    def __init__(self, root, target):
        if self.decoder.startswith("Pillow"):
            decoding.simplejpeg = None
        self.dataset = ImageDataset(*listed(root), root, SIZE)

    def batches(self, workers):
        return DataLoader(self.dataset, BATCH, shuffle=True, num_workers=workers)


class OursPrefetched(Ours):
    workers = THREADS

    def batches(self, workers):
        self.dataset.threads = workers
        return PrefetchLoader(self.dataset, BATCH, shuffle=True)


class OursPillow(Ours):
    decoder = "Pillow, torch"


class OursPrefetchedPillow(OursPrefetched):
    decoder = "Pillow, torch"


class Packed:
    distribution, kept, workers, shuffle, recipe = "", "article/packed", (0,), "whole", False
    decoder, antialiased = "none", True

    @staticmethod
    def convert(root, target):
        pack(root, SIZE)

    def __init__(self, root, target):
        self.dataset = PackedDataset(*listed(root), root)

    def batches(self, workers):
        return PrefetchLoader(self.dataset, BATCH, shuffle=True)


class BareOurs:
    "What one process decodes in a plain loop, our way: the limit, as many of them as there are cores"

    distribution, kept, workers, shuffle, recipe = "", "article", (0,), "whole", False

    def __init__(self, root, target):
        self.dataset = ImageDataset([], {}, root, SIZE)

    def load(self, file: Path, pixels: numpy.ndarray):
        pixels[:] = self.dataset.load(file).numpy().transpose(1, 2, 0)


class BarePillow(BareOurs):
    def load(self, file: Path, pixels: numpy.ndarray):
        pixels[:] = pillow(file.read_bytes())


class Lmdb:
    distribution, kept, workers, shuffle, recipe = "lmdb", "lmdb", WORKERS, "whole", False
    decoder, antialiased = "Pillow", True
    decode = staticmethod(pillow)

    @staticmethod
    def convert(root, target):
        import lmdb

        environment, labels = lmdb.open(str(target), map_size=1 << 40), []
        for some in in_groups(enumerate(jpegs(root)), 1000):
            with environment.begin(write=True) as transaction:
                for i, (data, y) in some:
                    transaction.put(b"%09d" % i, data)
                    labels.append(y)
        (target / "labels.json").write_text(json.dumps(labels))
        environment.close()

    def __init__(self, root, target):
        self.target, self.environment = target, None
        self.labels = torch.tensor(json.loads((target / "labels.json").read_text()))

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, indices):
        if self.environment is None:  # each worker opens its own
            import lmdb

            self.environment = lmdb.open(
                str(self.target), readonly=True, lock=False, readahead=False, meminit=False
            )
        X = torch.empty(len(indices), *SIZE, 3, dtype=torch.uint8)
        with self.environment.begin() as transaction:
            for pixels, i in zip(X.numpy(), indices, strict=True):
                pixels[:] = self.decode(transaction.get(b"%09d" % i))
        return X, self.labels[indices]

    def batches(self, workers):
        loader = DataLoader(self, BATCH, shuffle=True, num_workers=workers, collate_fn=whole)
        return channels_last(loader)


class LmdbSimplejpeg(Lmdb):
    decoder, antialiased = "simplejpeg, OpenCV", False
    decode = staticmethod(simplejpeg_opencv)


class HuggingFace:
    # Its type Image keeps the file as it is, and decodes it by Pillow.
    distribution, kept, workers, shuffle, recipe = "datasets", "datasets", WORKERS, "whole", False
    decoder, antialiased = "Pillow", True

    @staticmethod
    def convert(root, target):
        import datasets

        rows = [{"X": {"bytes": data, "path": None}, "y": y} for data, y in jpegs(root)]
        features = datasets.Features({"X": datasets.Image(mode="RGB"), "y": datasets.Value("int64")})
        datasets.Dataset.from_list(rows, features=features).save_to_disk(target / "samples")

    def __init__(self, root, target):
        import datasets

        self.dataset = datasets.load_from_disk(target / "samples").with_transform(self.scaled)

    @staticmethod
    def scaled(rows):
        images = [image.resize(SIZE[::-1], Image.Resampling.BILINEAR) for image in rows["X"]]
        return {"X": [torch.from_numpy(numpy.array(image)) for image in images], "y": rows["y"]}

    def batches(self, workers):
        loader = DataLoader(self.dataset, BATCH, shuffle=True, num_workers=workers)
        return channels_last((batch["X"], batch["y"]) for batch in loader)


class LitData:
    distribution, kept, workers, shuffle, recipe = "litdata", "litdata", WORKERS, "whole", False
    decoder, antialiased = "Pillow", True

    @staticmethod
    def convert(root, target):
        import litdata

        IDs, labels = listed(root)
        rows = [(str(root / ID), labels[ID]) for ID in IDs]
        how = {"chunk_bytes": "64MB", "num_workers": 1, "mode": "overwrite", "verbose": False}
        litdata.optimize(read_row, rows, str(target), **how)

    def __init__(self, root, target):
        import litdata

        self.loader = litdata.StreamingDataLoader
        self.dataset = litdata.StreamingDataset(str(target), shuffle=True, transform=decoded)

    def batches(self, workers):
        return channels_last(self.loader(self.dataset, batch_size=BATCH, num_workers=workers))


def read_row(row):
    "A function of a module, for the processes that LitData starts"
    file, y = row
    return Path(file).read_bytes(), y


def decoded(row):
    data, y = row
    return torch.from_numpy(pillow(data)), y


class WebDataset:
    distribution, kept, workers, recipe = "webdataset", "webdataset", WORKERS, False
    shuffle, decoder, antialiased = "buffer of 1,000", "Pillow", True

    @staticmethod
    def convert(root, target):
        import webdataset

        # As many shards as there may be workers: one without a shard has nothing to do.
        with webdataset.ShardWriter(str(target / "%05d.tar"), maxcount=250, verbose=0) as out:
            for i, (data, y) in enumerate(jpegs(root)):
                out.write({"__key__": f"{i:09}", "jpg": data, "cls": y})

    def __init__(self, root, target):
        import webdataset

        self.shards = sorted(map(str, target.glob("*.tar")))
        self.webdataset = webdataset

    def batches(self, workers):
        dataset = self.webdataset.WebDataset(self.shards, shardshuffle=len(self.shards), empty_check=False)
        dataset = dataset.shuffle(1000).to_tuple("jpg", "cls").map_tuple(pillow, int).batched(BATCH)
        loader = self.webdataset.WebLoader(dataset, batch_size=None, num_workers=workers)
        return channels_last((torch.as_tensor(X), torch.as_tensor(y)) for X, y in loader)


class MosaicStreaming:
    distribution, kept, workers, recipe = "mosaicml-streaming", "mosaicml", WORKERS, False
    shuffle, decoder, antialiased = "whole", "Pillow", True

    @staticmethod
    def convert(root, target):
        how = {"out": str(target / "samples"), "columns": {"X": "bytes", "y": "int"}}
        with import_streaming().MDSWriter(**how) as out:
            for data, y in jpegs(root):
                out.write({"X": data, "y": y})

    def __init__(self, root, target):
        self.streaming, self.folder = import_streaming(), str(target / "samples")

    def batches(self, workers):
        class Decoded(self.streaming.StreamingDataset):
            def __getitem__(self, index):
                row = super().__getitem__(index)
                return torch.from_numpy(pillow(row["X"])), row["y"]

        self.streaming.base.util.clean_stale_shared_memory()  # as in benchmarks/peer_loaders.py
        dataset = Decoded(local=self.folder, shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
        return channels_last(DataLoader(dataset, BATCH, num_workers=workers))


class Dali:
    # Its pipeline stays from epoch to epoch, so its start counts in the first one only, and the first two
    # batches of the others are made between them.
    distribution, kept, workers, recipe = "nvidia-dali-cuda130", "article", THREADS, False
    shuffle, decoder, antialiased = "whole", "DALI", True

    def __init__(self, root, target):
        IDs, labels = listed(root)
        self.files, self.labels = [str(root / ID) for ID in IDs], [labels[ID] for ID in IDs]
        self.loaders = {}

    def loader(self, threads):
        from nvidia.dali import fn, pipeline_def, types
        from nvidia.dali.plugin.base_iterator import LastBatchPolicy
        from nvidia.dali.plugin.pytorch import DALIGenericIterator

        @pipeline_def(batch_size=BATCH, num_threads=threads, device_id=None)
        def images():
            how = {"files": self.files, "labels": self.labels, "shuffle_after_epoch": True, "name": "files"}
            data, y = fn.readers.file(**how)
            X = fn.decoders.image(data, device="cpu", output_type=types.RGB, jpeg_fancy_upsampling=True)
            scale = {"interp_type": types.INTERP_LINEAR, "antialias": True}
            return fn.resize(X, resize_y=SIZE[0], resize_x=SIZE[1], **scale), y

        how = {"reader_name": "files", "last_batch_policy": LastBatchPolicy.PARTIAL}
        return DALIGenericIterator(images(), ["X", "y"], **how)

    def batches(self, workers):
        # One whose epoch was left early is not used again.
        loader = self.loaders.pop(workers, None) or self.loader(workers)
        for (batch,) in loader:
            yield batch["X"].permute(0, 3, 1, 2), batch["y"][:, 0].long()
        loader.reset()
        self.loaders[workers] = loader


class Spdl(Threads):
    # Its own decoder, FFmpeg, needs libraries that are not here.
    distribution, recipe = "spdl-core", False

    def batches(self, workers):
        from spdl.dataloader import DataLoader

        order = BatchSampler(RandomSampler(self), BATCH, drop_last=False)
        return DataLoader(order, preprocessor=self.batch, num_threads=workers)


class SpdlSimplejpeg(Spdl):
    decoder, antialiased = "simplejpeg, OpenCV", False
    decode = staticmethod(simplejpeg_opencv)


class Grain(Threads):
    # It decodes nothing itself; why it gets an order in batches, benchmarks/peer_loaders.py says.
    distribution, recipe = "grain", False

    def __init__(self, root, target):
        import grain

        super().__init__(root, target)
        self.grain = grain

    def batches(self, workers):
        order = self.grain.MapDataset.source(torch.randperm(len(self)).split(BATCH))
        how = self.grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
        return order.map(self.batch).to_iter_dataset(how)


class GrainSimplejpeg(Grain):
    decoder, antialiased = "simplejpeg, OpenCV", False
    decode = staticmethod(simplejpeg_opencv)


# {as it is called in the tables: its class}; the first is what all are compared with
PEERS = {
    "Pillow, the usual class": Pattern,
    "ImageDataset in DataLoader": Ours,
    "ImageDataset in PrefetchLoader": OursPrefetched,
    "PackedDataset in PrefetchLoader": Packed,
    "ImageDataset in DataLoader, without simplejpeg": OursPillow,
    "ImageDataset in PrefetchLoader, without simplejpeg": OursPrefetchedPillow,
    "Pillow, threads": Threads,
    "simplejpeg and OpenCV, the usual class": PatternSimplejpeg,
    "simplejpeg and OpenCV, threads": ThreadsSimplejpeg,
    "OpenCV, the usual class": PatternOpencv,
    "OpenCV, threads": ThreadsOpencv,
    "DALI CPU": Dali,
    "SPDL, Pillow": Spdl,
    "SPDL, simplejpeg": SpdlSimplejpeg,
    "Grain, Pillow": Grain,
    "Grain, simplejpeg": GrainSimplejpeg,
    "LMDB, Pillow": Lmdb,
    "LMDB, simplejpeg": LmdbSimplejpeg,
    "WebDataset": WebDataset,
    "HF datasets": HuggingFace,
    "LitData": LitData,
    "MosaicML Streaming": MosaicStreaming,
}
# As many processes as there are cores: what loaders can reach at most
BARE = {"bare, our way": BareOurs, "bare, Pillow": BarePillow}
