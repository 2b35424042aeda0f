"""tools/verify.py FILE...: installs each wheel or sdist into an empty virtual environment and runs smoke.py there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SMOKE = Path(__file__).with_name("smoke.py").resolve()


def verify(file: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        python = f"{place}/bin/python"
        print(f"{file.name}:", flush=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", file], check=True, cwd=place
        )
        subprocess.run([python, "-I", SMOKE], check=True, cwd=place)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        verify(Path(name).resolve())
