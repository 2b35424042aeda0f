"""Is an installed imcore whole? Run by the Python that it was installed for, away from the source tree.

Imports what a program does or, with --whole and where its extras are installed, everything; takes a frame through the
compiled codec, asks the command for its version, and looks for the files that make a package useful to others: types,
stubs, C interfaces.
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import imcore
from imcore import _codec


def main() -> None:
    package = Path(imcore.__file__).parent
    for module in pkgutil.walk_packages(imcore.__path__, "imcore.") if "--whole" in sys.argv else ():
        if module.name.rpartition(".")[2] != "__main__":
            importlib.import_module(module.name)

    frame = _codec.encode(_codec.MSG, id=7, route="chat", body=b"hello")
    [back] = _codec.FrameDecoder().feed(frame)
    assert (back.type, back.id, back.route, back.body) == (_codec.MSG, 7, "chat", b"hello"), back

    command = shutil.which("imcore", path=str(Path(sys.executable).parent)) or "imcore"
    said = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
    assert version("imcore") in said, said

    assert (package / "py.typed").exists()
    for stub in package.glob("_*.pyi"):
        assert stub.with_suffix(".pxd").exists(), f"{stub.name} without its C interface"
    assert not list(package.glob("*.c")), "C sources in the package"
    print(f"imcore {version('imcore')} is whole in {package}")


if __name__ == "__main__":
    main()
