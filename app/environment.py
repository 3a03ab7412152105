"""The environment as the settings want it: secrets from files, passwords in URLs, no misspellings.

Everything takes the environment as an argument; nothing here reads the process's own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qs, quote, urlsplit


class SettingsError(Exception):
    """A setting is missing or unusable; the message names each variable and what is wrong."""


PREFIX = "SECONDLOOK_"
FILE = "_FILE"
PASSWORDS: Mapping[str, str] = MappingProxyType(
    {"DATABASE_PASSWORD": "DATABASE_URL", "REDIS_PASSWORD": "REDIS_URL"}
)
"""Variables with a password, and the URL that it belongs in."""
SECRETS: tuple[str, ...] = (*PASSWORDS.values(), *PASSWORDS, "OPENAI_API_KEY")
"""Variables that may be given as files, by the same name with `_FILE`."""

# A variable of ours that is no setting: what the examples call a client's key.
_OURS_TOO = frozenset({"SECONDLOOK_KEY"})
# What Kubernetes sets in every container for a Service whose name begins with "secondlook".
_OF_KUBERNETES = re.compile(r"(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_[A-Z]+(_[A-Z]+)?)?)")
# A user and a password, or a user alone, in which every % begins two hexadecimal digits.
_ENCODED = re.compile(r"([^%]|%[0-9A-Fa-f]{2})*")
_ENCODE = (
    "it can't be read: in a user or password @ : / ? # and % are written as %40 %3A %2F %3F %23 %25"
)


def read_given(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """What the environment says of these variables.

    White space around a value does not count, and an empty value is none. The secrets among the
    names are also taken from files, and a password is put in its URL.

    Raises:
        SettingsError: a variable and its file are both given, a file can't be read, or a password
            has no URL to belong in.
    """
    wanted = tuple(names)
    given = {name: environ[name].strip() for name in wanted if environ.get(name, "").strip()}
    problems: list[str] = []
    for name in SECRETS:
        file = environ.get(name + FILE, "").strip()
        if name not in wanted or not file:
            continue
        try:
            given |= _from_file(name, file, given=name in given)
        except SettingsError as problem:
            problems.append(str(problem))
    for name, url in PASSWORDS.items():
        try:
            if name in given:
                given[url] = _with_password(given[url], given.pop(name))
        except KeyError:
            problems.append(f"{name} is set without {url}, which it belongs in")
        except ValueError:
            problems.append(f"{url} has a password, and {name} is set too: take one away")
    if problems:
        raise SettingsError("; ".join(problems))
    return given


def with_urls(environ: Mapping[str, str], *, database_url: str, redis_url: str) -> dict[str, str]:
    """The environment of a child process that gets these two URLs, however ours were given."""
    replaced = {*PASSWORDS, *PASSWORDS.values()}
    replaced |= {name + FILE for name in replaced}
    kept = {name: value for name, value in environ.items() if name not in replaced}
    return {**kept, "DATABASE_URL": database_url, "REDIS_URL": redis_url}


def check_spelling(
    environ: Mapping[str, str], known: Iterable[str], *, warn: Callable[[str], object]
) -> None:
    """Looks at variables of ours that are no setting.

    One that resembles a setting is refused, since it was meant to say something. Any other only
    gets a warning: it may be a newer version's, left in the environment after a step back.

    Raises:
        SettingsError: names the variable and the nearest setting.
    """
    settings = {name.removeprefix(PREFIX): name for name in known if name.startswith(PREFIX)}
    problems = []
    for name in sorted(environ):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest in settings or name in _OURS_TOO or _OF_KUBERNETES.fullmatch(rest):
            continue
        nearest = difflib.get_close_matches(rest, settings, n=1, cutoff=0.7)
        if nearest:
            problems.append(f"{name} is no setting: did you mean {settings[nearest[0]]}?")
        else:
            warn(f"{name} is no setting and has no effect")
    if problems:
        raise SettingsError("; ".join(problems))


def check_postgres_url(url: str) -> str:
    """The URL, if libpq will understand it and it names a host and a database.

    Raises:
        ValueError: what is wrong with it, without quoting it.
    """
    scheme = url.partition("://")[0]
    if scheme.startswith(("postgresql+", "postgres+")):
        raise ValueError("must begin with postgresql:// and name no driver")
    if scheme not in {"postgresql", "postgres"} or scheme == url:
        raise ValueError("must begin with postgresql://")
    parts = _split(url)
    query = parse_qs(parts.query)
    # several hosts are tried in turn
    for host in parts.netloc.rpartition("@")[2].split(","):
        if not re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:\d*)?", host):
            raise ValueError("names a host or port that can't be read")
        if not (host.partition(":")[0] or {"host", "hostaddr", "service"} & set(query)):
            raise ValueError(
                "names no host: postgresql://user@host/database, or with a socket "
                "postgresql://user@/database?host=/var/run/postgresql"
            )
    if parts.path in {"", "/"} and not {"dbname", "service"} & set(query):
        raise ValueError("names no database: postgresql://user@host/database")
    return url


def check_redis_url(url: str) -> str:
    """The URL, if it names a server.

    Raises:
        ValueError: what is wrong with it, without quoting it.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    parts = _split(url)
    if parts.scheme == "unix":
        if parts.path in {"", "/"}:
            raise ValueError("names no socket: unix:///path/of/the/socket")
    elif not _host(parts):
        raise ValueError("names no host: redis://host:6379/0")
    elif not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError("names its database by something else than a number: redis://host:6379/0")
    return url


def check_http_url(url: str) -> str:
    """The URL, if it names a web server.

    Raises:
        ValueError: what is wrong with it, without quoting it.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if not _host(_split(url)):
        raise ValueError("names no host: http://host:port/v1")
    return url


def _from_file(name: str, file: str, *, given: bool) -> dict[str, str]:
    if given:
        raise SettingsError(f"{name} and {name}{FILE} are both set: take one away")
    try:
        # editors and `echo` end a file with a newline, which no secret ends with
        content = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{name}{FILE}: the file can't be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{name}{FILE}: the file holds something else than text") from error
    if content:
        return {name: content}
    if name == "OPENAI_API_KEY":  # not every server wants one
        return {}
    raise SettingsError(f"{name}{FILE}: the file is empty")


def _with_password(url: str, password: str) -> str:
    # by hand, since urlunsplit drops the // before an empty host; what is no URL is told later
    scheme, _, rest = url.partition("://")
    end = re.search(r"[/?#]|$", rest)
    assert end is not None
    netloc, rest = rest[: end.start()], rest[end.start() :]
    user, _, hosts = netloc.rpartition("@")
    if ":" in user or re.search(r"[?&]password=", rest):
        raise ValueError
    return f"{scheme}://{user}:{quote(password, safe='')}@{hosts}{rest}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError("is no URL") from error
    user = parts.netloc.rpartition("@")[0]
    if "@" in user or "@" in parts.path or parts.fragment or not _ENCODED.fullmatch(user):
        raise ValueError(_ENCODE)
    return parts


def _host(parts: SplitResult) -> str | None:
    try:
        # reading the port checks it
        return parts.hostname if parts.port != 0 else None
    except ValueError as error:
        raise ValueError("names a port that can't be read") from error
