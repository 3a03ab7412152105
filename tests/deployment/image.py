"""What the Dockerfile builds and docker-compose.yml runs, without Docker and without a network.

The wheel is built from copies of what the Dockerfile copies, and installed in an environment whose
other packages are those of the image's lock file alone (links to this environment's own). Programs
run there as the compose file says: as an ordinary user, with the image's variables and the
service's, in an empty working directory, on code that they can't write to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deployment.support import ROOT, copied, services, stages

NOBODY = 65534


def ordinary_user() -> dict[str, Any]:
    """Arguments for `subprocess` by which a program is not root's; none where we are not root."""
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@dataclass(frozen=True)
class Image:
    """The built environment.

    Attributes:
        venv: the environment, /opt/secondlook of the image.
        root: a directory that everybody may enter, with what is around the environment.
        libraries: variables by which its Python finds its own library, where it is a copy.
    """

    venv: Path
    root: Path
    libraries: Mapping[str, str]

    @property
    def site(self) -> Path:
        """Where its packages are."""
        return _site(self.venv)

    def environment(self, service: str, replaced: Mapping[str, str]) -> dict[str, str]:
        """All variables of a service's container: the image's and its own, nothing else.

        Args:
            service: of the compose file.
            replaced: texts of its values and what stands for them here, such as host names.
        """
        image = stages()[-1].environment()
        image["PATH"] = image["PATH"].replace("/opt/secondlook", str(self.venv))
        image["HOME"] = image["TMPDIR"] = str(self.root / "tmp")
        own = {
            name: _replaced(str(value), replaced)
            for name, value in services()[service]["environment"].items()
            if value is not None
        }
        return {**image, **own}

    def start(
        self, *command: str, env: Mapping[str, str], log: Path | None = None
    ) -> subprocess.Popen[str]:
        """A program of the environment, found by its PATH as in the container."""
        program = shutil.which(command[0], path=env["PATH"])
        assert program is not None, command
        with log.open("w") if log else open(os.devnull) as sink:  # noqa: PTH123  # a device
            return subprocess.Popen(
                [program, *command[1:]],
                env={**self.libraries, **env},
                cwd=self.root / "srv",
                stdin=subprocess.DEVNULL,
                stdout=sink if log else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                **ordinary_user(),
            )

    def run(self, *command: str, env: Mapping[str, str]) -> tuple[int, str]:
        """A program's exit status and what it wrote."""
        process = self.start(*command, env=env)
        written, _ = process.communicate()
        return process.returncode, written


def entrypoint() -> list[str]:
    """What every command of the image begins with."""
    return re.findall(r'"([^"]+)"', stages()[-1].value("ENTRYPOINT"))


def lacking(image: Image) -> list[str]:
    """What some package of the image requires and the image has not, as `pip check` tells it."""
    found = {canonicalize_name(each.name): each for each in distributions(path=[str(image.site)])}
    lacks: list[str] = []
    seen: set[tuple[str, str]] = set()
    todo = [(canonicalize_name("secondlook"), extra) for extra in ("", "otel")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in found[name].requires or ():
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
                continue
            there = found.get(canonicalize_name(wanted.name))
            if there is None or not wanted.specifier.contains(there.version, prereleases=True):
                lacks.append(f"{name}: {text}")
            else:
                todo += [(canonicalize_name(wanted.name), each) for each in ("", *wanted.extras)]
    return lacks


@contextmanager
def built_image() -> Iterator[Image]:
    """The environment, made anew."""
    # not below pytest's own directory, which only its owner may enter
    with tempfile.TemporaryDirectory(prefix="secondlook-image-") as directory:
        root = Path(directory)
        root.chmod(0o755)
        for name, mode in (("srv", 0o555), ("tmp", 0o1777), ("opt", 0o755)):
            (root / name).mkdir()
            (root / name).chmod(mode)
        wheel = _wheel(root)
        venv = root / "opt" / "secondlook"
        python, libraries = _interpreter(root)
        make = [python, "-m", "venv", "--without-pip", str(venv)]
        subprocess.run(make, check=True, env=libraries)
        _link_locked_packages(_site(venv))
        install = ("install", "--compile", "--no-deps", "--no-index", str(wheel))
        _pip("--python", str(venv / "bin" / "python"), *install, env=libraries)
        _forbid_writing(venv)
        image = Image(venv, root, libraries)
        _check_reachable(image)
        try:
            yield image
        finally:
            # only root removes files from a folder that is not to be written to
            for path in (venv, *venv.rglob("*")):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)


def _wheel(root: Path) -> Path:
    source = root / "source"
    source.mkdir()
    for path in copied():
        if (ROOT / path).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / path, source / path, ignore=ignored)
        else:
            shutil.copy(ROOT / path, source / path)
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    _pip("wheel", *offline, "--wheel-dir", str(root / "dist"), str(source))
    (wheel,) = (root / "dist").iterdir()
    return wheel


def _pip(*arguments: str, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _interpreter(root: Path) -> tuple[str, dict[str, str]]:
    """Our Python where an ordinary user may run it, and the variables it needs there.

    It may be in root's own home; then a copy of it is made.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = Path(sys.base_prefix)
    if _runs(home / "bin" / name, {}):
        return str(home / "bin" / name), {}
    copy = root / "python"
    ignored = shutil.ignore_patterns("site-packages", "test", "config-*", "idlelib", "tkinter")
    shutil.copytree(home / "lib" / name, copy / "lib" / name, ignore=ignored)
    for library in (home / "lib").glob("libpython*.so*"):
        shutil.copy(library, copy / "lib")
    (copy / "bin").mkdir()
    shutil.copy(home / "bin" / name, copy / "bin")
    libraries = {"LD_LIBRARY_PATH": str(copy / "lib")}
    if not _runs(copy / "bin" / name, libraries):
        pytest.skip(f"an ordinary user may not run {home}, nor a copy of it")
    return str(copy / "bin" / name), libraries


def _runs(python: Path, env: Mapping[str, str]) -> bool:
    probe = [str(python), "-c", "import venv, ssl, multiprocessing"]
    try:
        done = subprocess.run(
            probe, check=False, cwd="/", env=env, capture_output=True, **ordinary_user()
        )
    except OSError:
        return False
    return done.returncode == 0


def _link_locked_packages(site: Path) -> None:
    """Links to every file and folder that the image's locked packages have at the top."""
    lock = (ROOT / "requirements-otel.txt").read_text()
    for name in re.findall(r"^([a-z0-9._-]+)==", lock, flags=re.MULTILINE):
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # another platform's
        for top in {Path(file).parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())


def _site(venv: Path) -> Path:
    (site,) = venv.glob("lib/python3*/site-packages")
    return site


def _forbid_writing(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o555)


def _check_reachable(image: Image) -> None:
    environment = {"PATH": str(image.venv / "bin")}
    status, written = image.run("python", "-c", "import fastapi", env=environment)
    if status and "PermissionError" in written:
        pytest.skip("an ordinary user may not read this environment's packages")
    assert status == 0, written


def _replaced(text: str, replaced: Mapping[str, str]) -> str:
    for there, here in replaced.items():
        text = text.replace(there, here)
    return text
