"""The exercise of chapter 06: what is asked of an answer."""

from dataclasses import replace

from ...measure.parts import Parts
from ...measure.simulation import simulate
from ...measure.timeline import Timeline
from ..verdicts import exercise, short

CAUSES = {
    1: "the device is the limit",
    2: "there are too few workers",
    3: "a sample takes too long to make",
    4: "the workers start again in every epoch",
    5: "one slow sample holds up those behind it",
    6: "the hand-over of batches takes too long",
}
LOOK = {  # of each time line its cause, and where that shows
    "A": (3, "neither worker ever rests; with both CPUs taken, what would a third worker get?"),
    "B": (1, "which row has no break after the first batch, and which rows have many?"),
    "C": (5, "for most of the time the workers rest; what else ends where the one long wait ends?"),
    "D": (2, "the only worker never rests; what does the second CPU do meanwhile?"),
    "E": (4, "once an epoch runs there is hardly a wait; what does each of the three begin with?"),
}


def time_lines() -> dict[str, Timeline]:
    "Five runs on a machine with two CPUs, simulated: the same on every machine"
    parts = Parts(
        [0.0010, 0.0012, 0.0011, 0.0014],
        cpu_share=1,
        collating=0.0006,
        copying=0.0004,
        receiving=0.0003,
        starting=0.004,
        arriving=0.012,
        ending=0.006,
        batch_size=8,
        cpus=2,
    )
    long = replace(parts, samples=[0.0025, 0.0028, 0.0031])
    short = replace(parts, samples=[0.0008, 0.0009, 0.0010])
    one_long = replace(parts, samples=[0.0010] * 159 + [0.11])
    slow_start = replace(parts, starting=0.008, arriving=0.035)
    return {
        "A": simulate(long, workers=2, batches=26, step=0.005),
        "B": simulate(short, workers=2, batches=22, step=0.014),
        "C": simulate(one_long, workers=2, batches=26, step=0.0115),
        "D": simulate(parts, workers=1, batches=30, step=0.0055),
        "E": in_turn([simulate(slow_start, workers=2, batches=6, step=0.008, seed=n) for n in range(3)]),
    }


def in_turn(epochs: list[Timeline]) -> Timeline:
    "One after another, as one run"
    whole, batches = Timeline(), 0
    for epoch in epochs:
        for span in epoch.spans:
            later = {"start": whole.seconds + span.start, "end": whole.seconds + span.end}
            whole.spans.append(replace(span, batch=batches + span.batch, **later))
        batches += 1 + max(span.batch for span in epoch.spans)
        whole.seconds, whole.samples = whole.seconds + epoch.seconds, whole.samples + epoch.samples
    return whole


@exercise
def causes(answer):
    "in A no CPU is free for a third worker, in D one is; C waits for one slow sample, E for its workers"
    if not isinstance(answer, (list, tuple)) or len(answer) != len(LOOK):
        return f"expected five numbers, for A to E, you gave {short(answer)}"
    if strange := [number for number in answer if number not in CAUSES]:
        return f"expected numbers from 1 to {len(CAUSES)}, you gave {short(strange[0])}"
    right = sum(given == cause for given, (cause, _) in zip(answer, LOOK.values(), strict=True))
    for given, (line, (cause, where)) in zip(answer, LOOK.items(), strict=True):
        if given != cause:
            return f"{right} of 5 are right; look again at {line}: {where}"
