"""What pytorch_script.py says and reaches, with the seeds 0 to 9: rewrites results/script_seeds.json.

python3 benchmarks/script_seeds.py      # about 3 minutes; then python3 tools/readme.py
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from feedgpu.measure import machine

ROOT = Path(__file__).resolve().parent.parent


def main():
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for file in (ROOT / "pytorch_script.py", ROOT / "my_classes.py"):
            shutil.copy(file, folder)
        for seed in range(10):
            began = time.perf_counter()
            command = [sys.executable, "pytorch_script.py", "--seed", str(seed)]
            said = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
            said = said.replace(f"{Path(folder).resolve()}/", "").replace(f"{folder}/", "")
            accuracy = float(re.search(r"Validation accuracy ([\d.]+)%", said)[1])
            runs.append(
                {"seed": seed, "seconds": time.perf_counter() - began, "accuracy": accuracy, "said": said}
            )
            print(f"seed {seed}: {accuracy} %, {runs[-1]['seconds']:.1f} s", flush=True)
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "runs": runs}
    file = ROOT / "benchmarks" / "results" / "script_seeds.json"
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
