"""Verdicts on the exercises: verdict.NAME(answer) shows one line, and never fails whatever the answer does.

An exercise's judge is a function in exercises/chapter_NN.py, of the exercise's name. It takes the reader's
answer, tries it on data that the reader has not seen, and returns None if it is right. Else it returns a
sentence: what was expected, what was given and why. Its docstring is the sentence behind the ✓. What was
measured of a right answer is returned as Right("…"), and follows it.

    @exercise
    def doubled(answer):
        "twice the number, also for negative ones"
        if (given := answer(-3)) != -6:
            return f"expected -6 for -3, you gave {given!r}: the sign stays"
"""

import functools
import html
import os
import signal
import threading
import traceback
from contextlib import contextmanager
from importlib import import_module

SECONDS = 10  # that an answer may take
COLOURS = {"✓": "#009E73", "✗": "#D55E00", "…": "#777777"}

CHAPTER_OF = {
    "waiting_share": "00",
    "batches": "01",
    "validator": "02",
    "swollen": "03",
    "feed": "04",
    "evaluate": "05",
    "causes": "06",
    "portable": "07",
    "choose": "08",
    "getitems": "09",
    "prefetched": "09",
    "repeatable": "11",
    "recordings": "12",
    "padded_pictures": "13",
}


class Exercises:
    "All exercises by their names; the file of one is imported when it is first asked for"

    def __getattr__(self, name: str):
        if name not in CHAPTER_OF:
            raise AttributeError(f"there is no exercise {name!r}; there are {', '.join(CHAPTER_OF)}")
        import_module(f".exercises.chapter_{CHAPTER_OF[name]}", __package__)
        return vars(self)[name]

    def __dir__(self):
        return list(CHAPTER_OF)


verdict = Exercises()


class Verdict:
    "One sentence that begins with ✓, ✗ or …; coloured where HTML is shown."

    def __init__(self, sentence: str):
        self.sentence = sentence

    def __repr__(self):
        return self.sentence

    def _repr_html_(self):
        return f'<span style="color: {COLOURS[self.sentence[0]]}">{html.escape(self.sentence)}</span>'


class Right(str):
    "What a judge has measured of a right answer"


class TimeUp(BaseException):
    "Not an Exception, so that an answer's own `except Exception` does not catch it."


def exercise(judge=None, seconds: float | None = None):
    "Puts a judge into `verdict`, under its own name. `@exercise(seconds=90)`: for answers that take longer."
    if judge is None:
        return functools.partial(exercise, seconds=seconds)

    @functools.wraps(judge)
    def checked(answer):
        given = Verdict(" ".join(judged(judge, answer, seconds or SECONDS).split()))
        if os.environ.get("FEEDGPU_STRICT") and not given.sentence.startswith("✓"):
            raise AssertionError(given.sentence)
        return given

    setattr(verdict, judge.__name__, checked)
    return judge


def judged(judge, answer, seconds: float) -> str:
    name = judge.__name__
    not_started = f"… {name}: not started. Delete the `raise` above, write your answer and run both cells."
    try:
        with limited(seconds):
            fault = judge(answer)
    except NotImplementedError as error:
        # Code that is only half there, as an abstract method of torch's, says what is missing.
        return f"✗ {name}: {raised(error)}" if str(error) else not_started
    except TimeUp:
        return f"✗ {name}: no answer after {seconds} s. Is there a loop that never ends?"
    except BaseException as error:  # also sys.exit() and the reader's own Ctrl-C
        fault = raised(error)
    if isinstance(fault, Right):
        return f"✓ {name}: {judge.__doc__}. {fault}"
    if answer is ... and fault:  # a judge that accepts even this is found out
        return not_started.replace("raise", "...")
    return f"✗ {name}: {fault}" if fault else f"✓ {name}: {judge.__doc__}"


@contextmanager
def told(what: str):
    "Says `what` was asked of an answer that raises."
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


def raised(error: BaseException) -> str:
    "What an answer raised, and the line of the reader's own cell where it did."
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    said = ", ".join([said, *getattr(error, "__notes__", [])])
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "ipykernel_" in frame.filename]
    if own:
        return f"line {own[-1].lineno} of your cell, `{own[-1].line}`, raised {said}"
    return f"your answer led to {said}"


@contextmanager
def limited(seconds: float):
    "Raises TimeUp in the block after so many seconds; not on Windows and outside the main thread."
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(
        signal.ITIMER_REAL, seconds, 1
    )  # again each second: a bare `except:` may catch the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def short(value, length: int = 60) -> str:
    "A value as Python shows it, cut to `length` letters."
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"
