"""Plays scenes in one process or in two: python processes.py MODULE ROOT OUT.

A scene is a function `scene(root, rank, ranks)` in the SCENES of a module. It returns what is asserted of it
elsewhere, or raises. Whatever hangs ends: each process after LIMIT seconds, showing where it was.
"""

import faulthandler
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIMIT = 150
QUIET = {
    **{"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"},
    **{"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    **{"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"},
}
OF_A_GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Raised(Exception):
    "What a scene raised, in the process in which it was played"


class Played(dict[str, list[dict[str, Any]]]):
    "Of each scene one result a rank"

    def returned(self, scene: str) -> list[Any]:
        for one in self[scene]:
            if "raised" in one:
                raise Raised(one["traceback"])
        return [one["returned"] for one in self[scene]]

    def raised(self, scene: str) -> list[str]:
        "Each as `RuntimeError: its message`"
        return [one.get("raised", f"nothing, it returned {one.get('returned')}") for one in self[scene]]


def played(root: Path, module: str, ranks: int) -> Played:
    with tempfile.TemporaryDirectory() as out:
        start = [sys.executable]
        if ranks > 1:  # --standalone: on a free port of the system's choice
            start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        env = {name: value for name, value in os.environ.items() if name not in OF_A_GROUP} | QUIET
        command = [*start, str(HERE / "processes.py"), module, str(root), out]
        process = subprocess.Popen(
            command, env=env, cwd=out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            said, _ = process.communicate(timeout=LIMIT + 60)
        except BaseException:  # a Ctrl-C, too: torchrun then ends its processes
            process.terminate()
            process.wait(30)
            raise
        assert process.returncode == 0, said
        each = [json.loads((Path(out) / f"{rank}.json").read_text()) for rank in range(ranks)]
    return Played({scene: [one[scene] for one in each] for scene in each[0]})


def attempt(scene, *of) -> dict[str, Any]:
    try:
        return {"returned": scene(*of)}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def play(module: str, root: str, out: str) -> None:
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    scenes = importlib.import_module(module).SCENES
    found = {scene.__name__: attempt(scene, root, rank, ranks) for scene in scenes}
    (Path(out) / f"{rank}.json").write_text(json.dumps(found))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads, which a framework has left, may abort a process that tidies up


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    play(*sys.argv[1:])
