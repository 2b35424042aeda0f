"""Builds the compiled core: every src/imcore/_*.pyx. Three switches, each an environment variable set to 1:

IMCORE_DEBUG     -O0, assertions, borrowed views poisoned after use
IMCORE_SANITIZE  AddressSanitizer and UndefinedBehaviourSanitizer
IMCORE_COVERAGE  line tracing for coverage.py's Cython plugin
"""

import os
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup


def switched_on(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


DEBUG = switched_on("IMCORE_DEBUG")
SANITIZE = switched_on("IMCORE_SANITIZE")
COVERAGE = switched_on("IMCORE_COVERAGE")

compile_args = ["-O0", "-g"] if DEBUG else ["-O3", "-g0"]
link_args: list[str] = []
macros: list[tuple[str, str | None]] = [("IMCORE_POISON", "1" if DEBUG or SANITIZE else "0")]
if SANITIZE:
    link_args = ["-fsanitize=address,undefined"]
    compile_args = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", *link_args]
if COVERAGE:
    macros.append(("CYTHON_TRACE_NOGIL", "1"))

extensions = [
    Extension(
        f"imcore.{Path(source).stem}",
        [source],
        depends=["setup.py", *glob("src/imcore/*.h")],
        include_dirs=["src/imcore"],
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for source in sorted(glob("src/imcore/_*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir=None if COVERAGE else "build/cython",  # coverage.py looks for the C beside the module
        include_path=["src"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
            "linetrace": COVERAGE,
        },
    ),
    # A compiled file does not tell with which switches it was made.
    options={"build_ext": {"parallel": 2, "force": DEBUG or SANITIZE or COVERAGE}},
)
