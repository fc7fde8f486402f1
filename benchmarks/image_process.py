"""One peer of benchmarks/images.py in a process of its own, as benchmarks/peer_process.py does it.

PYTHONPATH=. python3 benchmarks/image_process.py NAME FOLDER
"""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy
import torch
from image_loaders import BARE, PEERS, SIZE
from peer_loaders import BATCH
from peer_process import COMMANDS, Served, serve

from feedgpu.measure.page_cache import warm


class ServedImages(Served):
    def source(self) -> list[Path]:
        return [self.root / ID for ID in self.notation[0]]

    def check(self, workers: int) -> dict:
        """One epoch: its labels, each of which is the number of a sample, and how far the pixels of that lie
        from what Pillow makes of it, by the mean of their absolute differences, in levels of 256."""
        reference = torch.from_numpy(numpy.load(self.root.parent / "reference.npy", mmap_mode="c"))
        kinds, labels, far = set(), [], []
        for X, y in self.open().batches(workers):
            kinds.add(str((X.dtype, list(X.shape[1:]), y.dtype)))
            images, wanted = X.permute(0, 2, 3, 1), reference[y]
            apart = torch.maximum(images, wanted) - torch.minimum(images, wanted)
            far += apart.flatten(1).sum(1).div(apart[0].numel()).tolist()
            labels += y.tolist()
        return {
            "mean": sum(far) / len(far),
            "worst": max(far),
            "kinds": sorted(kinds),
            "labels": sorted(labels),
        }

    def bare(self, number: int, of: int, begin: float, seconds: float, threads: int = 1) -> float:
        """Images/s from a moment on that all `of` threads in all processes know, each of which takes every
        `of`-th file, over and over."""
        torch.set_num_threads(1)
        load = self.open().load

        def loop(number):
            files = self.source()[number::of]
            buffer = numpy.zeros((BATCH, *SIZE, 3), numpy.uint8)
            warm(files)
            for place, file in enumerate(files[:BATCH]):
                load(file, buffer[place])
            time.sleep(max(0, begin - time.perf_counter()))
            for taken, file in enumerate(islice(cycle(files), 1, None), 1):
                load(file, buffer[taken % BATCH])
                if (passed := time.perf_counter() - begin) > seconds:
                    return taken / passed

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(loop, range(number, number + threads)))


if __name__ == "__main__":
    serve(PEERS | BARE, ServedImages, (*COMMANDS, "bare"))
