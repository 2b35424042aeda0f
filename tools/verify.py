"""tools/verify.py FILE...: installs each wheel or sdist into an empty virtual environment and runs smoke.py there.

First as it is, which is all that a node by itself and a client need; then with its extras, where every module is there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SMOKE = Path(__file__).with_name("smoke.py").resolve()
EXTRAS = "imcore[redis,s3]"


def verify(file: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        python = f"{place}/bin/python"
        print(f"{file.name}:", flush=True)
        for what, how in ((file, []), (EXTRAS, ["--whole"])):
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what], check=True, cwd=place
            )
            subprocess.run([python, "-I", SMOKE, *how], check=True, cwd=place)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        verify(Path(name).resolve())
