"""Make a virtual environment that has Prefect, for the tests and benchmarks that run beside it.

    python tests/sdk/tutorials/prefect_venv.py DIRECTORY

Prefect's pin on certifi may name a version that no index has yet: the newest there is does.
"""

import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

VERSION = "3.9.1"


def main(directory: str) -> None:
    venv.create(directory, with_pip=True)
    python = str(Path(directory) / "bin" / "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "download", "--no-deps", f"prefect=={VERSION}", "--dest", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            (metadata,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
            lines = opened.read(metadata).decode().splitlines()
        needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
        wanted = ["certifi" if re.match(r"certifi\b", each) else each for each in needed if "extra ==" not in each]
        subprocess.run([*pip, "install", *wanted], check=True)
        subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)
    print(python)


if __name__ == "__main__":
    main(sys.argv[1])
