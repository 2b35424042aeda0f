"""The house rules that a script can see: what belongs together is there, and the papers say what the code says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import imcore

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "imcore"
EXTENSIONS = sorted(path.stem for path in PACKAGE.glob("_*.pyx"))
WITHOUT_A_MODEL = {"_hub", "_room", "_stream"}  # the oracle of a socket is a socket; rooms and streams show in links
MODULES = sorted(PACKAGE.rglob("*.py"))
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

SOURCES = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "fuzz", "tools", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".h", ".js", ".sh", ".md"} and "node_modules" not in path.parts
)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    """The modules of imcore that a file imports, by their names inside the package."""
    package = ["imcore", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            origin = ".".join(filter(None, [above, node.module]))
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("imcore.") for name in names if name.startswith("imcore."))


class TestTheCompiledCore:
    def test_there_is_one(self) -> None:
        assert {"_codec", "_hub", "_link", "_room", "_stream", "_wheel"} <= set(EXTENSIONS)

    @pytest.mark.parametrize("name", EXTENSIONS)
    def test_each_extension_has_its_c_interface_its_stub_and_its_model(self, name: str) -> None:
        assert (PACKAGE / f"{name}.pxd").exists()
        assert (PACKAGE / f"{name}.pyi").exists()
        if name not in WITHOUT_A_MODEL:
            assert (ROOT / "tests" / "models" / f"{name.removeprefix('_')}.py").exists()

    @pytest.mark.parametrize("name", EXTENSIONS)
    def test_each_imports_only_the_errors_and_its_own_kind(self, name: str) -> None:
        source = (PACKAGE / f"{name}.pyx").read_text() + (PACKAGE / f"{name}.pxd").read_text()
        ours = set(re.findall(r"^\s*from \.(\w+) c?import", source, re.MULTILINE))
        assert ours <= {"errors", *(path.stem for path in PACKAGE.glob("_*.pxd"))}
        assert "from . " not in source
        assert "from imcore" not in source

    @pytest.mark.parametrize("name", [name for name in EXTENSIONS if name != "_hub"])
    def test_only_the_hub_knows_of_sockets_clocks_and_loops(self, name: str) -> None:
        source = (PACKAGE / f"{name}.pyx").read_text()
        outside = {"asyncio", "logging", "os", "posix", "random", "select", "socket", "time", "uvloop"}
        assert not outside & set(re.findall(r"^\s*(?:c?import|from) (\w+)", source, re.MULTILINE))

    @pytest.mark.parametrize("path", MODULES, ids=relative)
    def test_rooms_above_the_channel_do_not_touch_it(self, path: Path) -> None:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in {"bus", "chat_service", "cli", "config", "errors", "messages", "schema", "service"}:
            assert not [name for name in imported(path) if name.split(".")[0] in EXTENSIONS]


class TestFiles:
    def test_every_folder_of_the_package_is_a_package(self) -> None:
        folders = {path.parent for path in MODULES}
        assert not {relative(folder) for folder in folders if not (folder / "__init__.py").exists()}

    @pytest.mark.parametrize("path", [*MODULES, *sorted(PACKAGE.glob("_*.p[yx][xd]"))], ids=relative)
    def test_hold_one_idea(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= 500, "a second idea: give it a file of its own"

    @pytest.mark.parametrize("path", MODULES, ids=relative)
    def test_say_what_they_are_for(self, path: Path) -> None:
        assert ast.get_docstring(ast.parse(path.read_text()))

    def test_the_build_is_short_and_has_three_switches(self) -> None:
        source = (ROOT / "setup.py").read_text()
        assert len(source.splitlines()) < 80
        assert set(re.findall(r'switched_on\("(\w+)"\)', source)) == {
            "IMCORE_DEBUG",
            "IMCORE_SANITIZE",
            "IMCORE_COVERAGE",
        }

    def test_a_build_in_the_environment_needs_what_an_isolated_one_does(self) -> None:
        assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]

    def test_each_python_that_is_promised_gets_a_wheel(self) -> None:
        promised = [
            line.rpartition(" ")[2].replace(".", "")
            for line in PROJECT["project"]["classifiers"]
            if re.search(r":: 3\.\d+$", line)
        ]
        assert PROJECT["tool"]["cibuildwheel"]["build"].split() == [f"cp{version}-*" for version in promised]
        assert PROJECT["project"]["requires-python"].replace(".", "") == f">={promised[0]}"


class TestPapers:
    def test_the_changelog_tells_of_this_version(self) -> None:
        headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
        assert headings[0] == "Unreleased"
        assert headings[1] == PROJECT["project"]["version"]

    @pytest.mark.parametrize("path", PAPERS, ids=relative)
    def test_links_lead_somewhere(self, path: Path) -> None:
        links = re.findall(r"\]\(([^)#\s]+)", path.read_text())
        missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
        assert not missing

    def test_what_the_sources_cite_is_there(self) -> None:
        protocol = (ROOT / "docs" / "protocol.md").read_text()
        sections = set(re.findall(r"^##+ (.*)$", protocol, re.MULTILINE))
        words = set(re.findall(r"`([^`\n]+)`", protocol)) | set(re.findall(r"/im/\w+", protocol))
        wrong = []
        for path in [*SOURCES, *PAPERS]:
            text = re.sub(r"\s*\n[\s#]*", " ", path.read_text())  # a citation may go over a line's end
            for section, word in re.findall(r'\bwire: (?:"([^"]+)"|`([^`]+?)[`.])', text):
                if section not in sections if section else word not in words:
                    wrong.append(f"{relative(path)}: wire: {section or word}")
            wrong += [
                f"{relative(path)}: {document}"
                for document in re.findall(r"\bdocs/[\w-]+\.(?:md|svg|json)\b", text)
                if not (ROOT / document).exists()
            ]
        assert not wrong, "`wire` is docs/protocol.md"

    def test_the_index_names_every_document(self) -> None:
        index = (ROOT / "docs" / "README.md").read_text()
        documents = {relative(path).removeprefix("docs/") for path in (ROOT / "docs").rglob("*.md")} - {"README.md"}
        assert not {document for document in documents if f"({document})" not in index}

    def test_make_help_lists_every_target(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        [targets] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
        make = ["make", "--no-print-directory", "help"]
        shown = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert [line.split()[0] for line in shown.splitlines()[:-1]] == targets.split()


class TestThePublicFace:
    def test_importing_the_package_is_all_it_takes(self) -> None:
        code = "import imcore; assert all(hasattr(imcore, name) for name in imcore.__all__); print(*imcore.__all__)"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert {"Client", "FrameDecoder", "Node", "TimerWheel", "Uplink"} <= set(said.stdout.split())

    def test_every_public_name_is_in_the_reference_and_in_the_changelog(self) -> None:
        reference, changes = (ROOT / "docs" / "api.md").read_text(), (ROOT / "CHANGELOG.md").read_text()
        public = set(imcore.__all__) - {"__version__"}
        assert not {name for name in public if f"`{name}`" not in reference}
        assert not {name for name in public if f"`{name}`" not in changes}
        assert not {name for name in imcore.Counters.__struct_fields__ if f"`{name}`" not in reference}
