"""What chapter 10's exercise asks of a generator that sends batches, and what its verdict says to others."""

from collections import deque

import pytest
import torch

from feedgpu.course import verdict


def sender(gpu):
    stream = gpu.Stream()

    def send(batch, pin=gpu.pin, non_blocking=True):
        with gpu.stream(stream):
            return [gpu.send(pin(part), non_blocking) for part in batch], stream.record_event()

    return stream, send


def hand_over(gpu, sent, wait=True, keep=True):
    batch, arrived = sent
    if wait:
        gpu.current_stream().wait_event(arrived)
    if keep:
        for part in batch:
            part.record_stream(gpu.current_stream())
    return batch


def right(batches, gpu, ahead=1, wait=True, keep=True, **how):
    _, send = sender(gpu)
    waiting = deque()
    for batch in batches:
        waiting.append(send(batch, **how))
        if len(waiting) > ahead:
            yield hand_over(gpu, waiting.popleft(), wait, keep)
    while waiting:
        yield hand_over(gpu, waiting.popleft(), wait, keep)


def delayed(batches, gpu):
    "Waits for each copy when it is sent, and hands it over one batch later"
    before = None
    for batch in right(batches, gpu, ahead=0):
        if before is not None:
            yield before
        before = batch
    yield before


def leaking(batches, gpu):
    "Hands over while its own stream is the current one"
    stream = gpu.Stream()
    waiting = deque()
    with gpu.stream(stream):
        for batch in batches:
            waiting.append([gpu.send(gpu.pin(part), True) for part in batch])
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting


def host_waits(batches, gpu):
    _, send = sender(gpu)
    waiting = deque()
    for batch in batches:
        waiting.append(send(batch))
        if len(waiting) > 1:
            batch, arrived = waiting.popleft()
            arrived.synchronize()
            yield hand_over(gpu, (batch, arrived))
    yield hand_over(gpu, waiting.popleft())


def one_stream(batches, gpu):
    waiting = deque()
    for batch in batches:
        waiting.append([gpu.send(gpu.pin(part), non_blocking=True) for part in batch])
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def forgets_the_last(batches, gpu):
    _, send = sender(gpu)
    before = None
    for batch in batches:
        now = send(batch)
        if before:
            yield hand_over(gpu, before)
        before = now


def fails_on_nothing(batches, gpu):
    batches = list(batches)
    batches[0]
    yield from right(iter(batches), gpu)


def adds_to_nothing(batches, gpu):
    batches = list(batches) or [[torch.zeros(1), torch.zeros(1)]]
    yield from right(iter(batches), gpu)


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_a_right_answer_is_right(ahead):
    given = verdict.prefetched(lambda batches, gpu: right(batches, gpu, ahead))
    assert given.sentence.startswith("✓ prefetched")


WRONG = {
    "not ahead": (lambda b, g: right(b, g, 0), "batch 1 was handed over before batch 2 was sent"),
    "all at once": (lambda b, g: right(b, g, 9), "at most three ahead"),
    "nobody waits": (lambda b, g: right(b, g, wait=False), "wait_event is missing"),
    "nobody keeps": (lambda b, g: right(b, g, keep=False), "record_stream is missing"),
    "not pinned": (lambda b, g: right(b, g, pin=lambda X: X), "14 of 14 tensors were sent without gpu.pin"),
    "blocking": (lambda b, g: right(b, g, non_blocking=False), "the host waited 14 times"),
    "host waits": (host_waits, "the host waited"),
    "delayed": (delayed, "the step on batch 1 has to wait for the copy of batch 2"),
    "leaking": (leaking, "your stream was still the current one"),
    "one stream": (one_stream, "sent on the stream of the steps"),
    "forgets": (forgets_the_last, "expected 7 batches, you handed over 6"),
    "no generator": (lambda b, g: None, "expected a generator, you gave None"),
    "on the host": (lambda b, g: iter(b), "is not on the device"),
    "fails on nothing": (fails_on_nothing, "a loader without batches ends in IndexError"),
    "adds to nothing": (adds_to_nothing, "you hand over a batch of a loader that has none"),
    "all at first": (lambda b, g: right(iter(list(b)), g), "take one from the loader when you send it"),
    "wrong order": (lambda b, g: right(reversed(list(b)), g), "has other numbers"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_answer_is_told_why(kind):
    answer, why = WRONG[kind]
    sentence = verdict.prefetched(answer).sentence
    assert sentence.startswith("✗ prefetched: ") and why in sentence, sentence
