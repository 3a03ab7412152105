"""The rules of docs/migrations.md, held against the statements that a migration really sends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


def _re(pattern: str) -> re.Pattern[str]:
    table = r"(?:TABLE )?(?:IF EXISTS )?(?:ONLY )?(?:public\.)?(?P<table>\w+)"
    return re.compile(pattern.replace("<table>", table), re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """What may not stand in a migration.

    Attributes:
        refused: what; with `<table>`, only of a table in use.
        why: it may not.
        unless: what makes it harmless.
        contract: whether a migration may do it that says it removes what no running code uses.
    """

    refused: re.Pattern[str]
    why: str
    unless: re.Pattern[str] | None = None
    contract: bool = False

    def refuses(self, text: str) -> bool:
        return self.unless is None or not self.unless.search(text)


_STATEMENTS = (
    Rule(
        _re(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).*? ON <table>"),
        "an index that stops writes",
    ),
    Rule(_re(r"(DROP INDEX|REINDEX \w+) (?!CONCURRENTLY)"), "stops reads and writes"),
    Rule(_re(r"(LOCK|CLUSTER|VACUUM)\b"), "stops reads and writes"),
    Rule(_re(r"TRUNCATE <table>"), "removes what is in use"),
    Rule(_re(r"DROP TABLE <table>"), "running code may use it", contract=True),
    Rule(_re(r"(?:UPDATE|DELETE FROM) <table>"), "rows change in batches", _re(r"\bLIMIT\b")),
)
_ALTER = _re(r"ALTER <table> (?P<actions>.*)")
# what ALTER TABLE does to a table in use; the first that fits counts
_ACTIONS = (
    Rule(
        _re(r"ADD (?:CONSTRAINT \w+ )?(CHECK|FOREIGN KEY)\b"),
        "reads all rows: add it NOT VALID, validate it later",
        _re(r"\bNOT VALID$"),
    ),
    Rule(
        _re(r"ADD (?:CONSTRAINT \w+ )?(UNIQUE|PRIMARY KEY|EXCLUDE)\b"),
        "builds an index that stops writes",
        _re(r"\bUSING INDEX\b"),
    ),
    Rule(
        _re(r"ADD\b.*\b(UNIQUE|PRIMARY KEY|REFERENCES|CHECK|(BIG|SMALL)?SERIAL|STORED)\b"),
        "a column that is checked or filled for all rows at once",
    ),
    Rule(
        # what is evaluated once for all rows is harmless; anything else writes each of them anew
        _re(r"ADD\b.*\bDEFAULT\b"),
        "a default that may differ by row",
        _re(
            r"\bDEFAULT (now\(\)|CURRENT_TIMESTAMP|\(?('[^']*'|[\w.+-]+)(::\w+(\[\])?)?\)?)"
            r"( NOT NULL| NULL)?$"
        ),
    ),
    Rule(_re(r"ADD\b.*\bNOT NULL\b"), "old code does not fill it", _re(r"\bDEFAULT\b")),
    Rule(_re(r"ALTER (?:COLUMN )?\w+ (?:SET DATA )?TYPE\b"), "writes the table anew"),
    Rule(_re(r"ALTER (?:COLUMN )?\w+ SET NOT NULL\b"), "reads all rows: have a CHECK instead"),
    Rule(_re(r"RENAME\b"), "running code knows the old name"),
    Rule(_re(r"DROP (?!CONSTRAINT)"), "running code may use it", contract=True),
    Rule(_re(r"SET (LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)\b"), "writes the table anew"),
)
_BOOKKEEPING = _re(
    r"(SELECT|SHOW|SET|RESET|BEGIN|COMMIT|ROLLBACK|DO|COMMENT)\b|.*\balembic_version\b"
)
_BY_ITSELF = _re(r"\bCONCURRENTLY\b|\bVALIDATE CONSTRAINT\b|\bLIMIT\b")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def violations(
    statements: Sequence[str], *, existing: AbstractSet[str], contracts: bool = False
) -> list[str]:
    """What of a migration would hold up requests, or break the code that is still running.

    Args:
        statements: of one migration, in order.
        existing: tables that were there before it.
        contracts: it says that it removes what no running code uses.
    """
    told = [_plain(statement) for statement in statements]
    told = [statement for statement in told if statement and not _BOOKKEEPING.match(statement)]
    found = [
        f"{rule.why}: {statement}"
        for statement in told
        for rule in _broken(statement, existing)
        if not (contracts and rule.contract)
    ]
    if len({bool(_BY_ITSELF.search(statement)) for statement in told}) > 1:
        found.append("a step that commits by itself stands in a migration of its own")
    altered = {match["table"] for statement in told if (match := _ALTER.match(statement))}
    if len(altered & existing) > 1:
        found.append(f"locks of several tables are held at once: {sorted(altered & existing)}")
    return found


def _plain(statement: str) -> str:
    """On one line, without comments and quotes of names."""
    return " ".join(_COMMENT.sub(" ", statement).replace('"', "").split())


def _broken(statement: str, existing: AbstractSet[str]) -> Iterator[Rule]:
    for rule in _STATEMENTS:
        match = rule.refused.match(statement)
        in_use = match is not None and match.groupdict().get("table") in {None, *existing}
        if in_use and rule.refuses(statement):
            yield rule
    altered = _ALTER.match(statement)
    if altered and altered["table"] in existing:
        for action in _split(altered["actions"]):
            fitting = next((rule for rule in _ACTIONS if rule.refused.match(action)), None)
            if fitting is not None and fitting.refuses(action):
                yield fitting


def _split(actions: str) -> Iterator[str]:
    """Parts of a list whose commas are not within parentheses."""
    depth, begin = 0, 0
    for at, letter in enumerate(actions):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            yield actions[begin:at].strip()
            begin = at + 1
    yield actions[begin:].strip()
