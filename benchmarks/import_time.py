"""What it costs to import the package: processes that import it, against one that imports torch alone.

    python3 benchmarks/import_time.py      # about 2 minutes; rewrites results/import_time.json

Processes of their own, from start to end, in fifteen alternating rounds. What is written is, of each program,
the median of the seconds and the median over the rounds of what it takes longer than `import torch`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from feedgpu.measure import machine

ROUNDS = 15
PROGRAMS = {
    "import torch": "import torch",
    "import feedgpu": "import feedgpu",
    "import torch, feedgpu": "import torch, feedgpu",
    "all names of feedgpu": "import feedgpu\nfor name in feedgpu.__all__:\n    getattr(feedgpu, name)",
    "feedgpu --help": "from feedgpu.command import main\nmain(['--help'])",
    "nothing": "",
}


def seconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    for program in PROGRAMS.values():  # once, so that all files are in the page cache
        seconds(program)
    rounds = [{name: seconds(program) for name, program in PROGRAMS.items()} for _ in range(ROUNDS)]
    rows = {
        name: {
            "seconds": median(found[name] for found in rounds),
            "longer than torch": median(found[name] - found["import torch"] for found in rounds),
        }
        for name in PROGRAMS
    }
    for name, row in rows.items():
        print(f"{name:24} {row['seconds']:7.3f} s   {row['longer than torch']:+7.3f} s")
    found = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "rounds": ROUNDS, "programs": rows}
    file = Path(__file__).parent / "results" / "import_time.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
