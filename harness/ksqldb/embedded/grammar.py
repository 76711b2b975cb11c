"""The statements that the engine reads. What a statement means is decided in ``plan``.

sqlglot has no ksqlDB dialect, so the frame of a statement is read here, word by word, and only the SELECT core is
left to sqlglot. Everything that is not listed here is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.ksqldb.embedded.catalog import SCALARS, Column, SourceKind, SqlType, array_of
from harness.ksqldb.embedded.errors import Refusal, unsupported
from harness.ksqldb.lexer import LexicalError, Token, tokens

_OTHER_STATEMENTS = frozenset(
    {
        "ADVANCE",
        "ALTER",
        "ASSERT",
        "DEFINE",
        "DESCRIBE",
        "DROP",
        "EXPLAIN",
        "INSERT",
        "LIST",
        "PAUSE",
        "PRINT",
        "RESUME",
        "RUN",
        "SET",
        "SHOW",
        "SPOOL",
        "TERMINATE",
        "UNDEFINE",
        "UNSET",
    }
)
_RESERVED_COLUMNS = frozenset({"ROWTIME", "ROWPARTITION", "ROWOFFSET", "WINDOWSTART", "WINDOWEND", "HEADERS"})


@dataclass(frozen=True)
class CreateStream:
    """``CREATE STREAM name (columns) WITH (properties)``: a stream over a topic."""

    name: str
    if_not_exists: bool
    columns: tuple[Column, ...]
    properties: dict[str, str]


@dataclass(frozen=True)
class CreateAs:
    """``CREATE STREAM|TABLE name AS select``: a persistent query. ``partition_by`` is the text of that clause."""

    kind: SourceKind
    name: str
    if_not_exists: bool
    select: str
    partition_by: str | None


@dataclass(frozen=True)
class PullQuery:
    """A SELECT that ends: it has no EMIT."""

    select: str


Statement = CreateStream | CreateAs | PullQuery


def parse(text: str) -> Statement:
    """Read one statement, without its semicolon. Raises Refusal with code 40001."""
    try:
        reader = _Reader(text, list(tokens(text)))
    except LexicalError as error:
        raise Refusal(str(error), statement=text) from error
    try:
        return _statement(reader)
    except Refusal as refusal:
        refusal.statement = text
        raise


class _Reader:
    """The tokens of one statement and how far they are read."""

    def __init__(self, text: str, found: list[Token]) -> None:
        self.text = text
        self.tokens = found
        self.at = 0

    @property
    def next(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, what: str) -> Token:
        token = self.next
        if token is None:
            raise Refusal(f"Syntax error: the statement ends where {what} is expected")
        self.at += 1
        return token

    def accept(self, *words: str) -> bool:
        """Step over ``words`` if they come next."""
        ahead = self.tokens[self.at : self.at + len(words)]
        if len(ahead) == len(words) and all(t.is_word(w) for t, w in zip(ahead, words, strict=True)):
            self.at += len(words)
            return True
        return False

    def accept_symbol(self, symbol: str) -> bool:
        if self.next is not None and self.next.is_symbol(symbol):
            self.at += 1
            return True
        return False

    def expect_symbol(self, symbol: str) -> None:
        token = self.take(f"'{symbol}'")
        if not token.is_symbol(symbol):
            raise self.unexpected(token, f"'{symbol}'")

    def identifier(self, what: str) -> str:
        token = self.take(what)
        if token.kind not in ("word", "quoted"):
            raise self.unexpected(token, what)
        return token.name

    def unexpected(self, token: Token, what: str) -> Refusal:
        line = self.text.count("\n", 0, token.start) + 1
        column = token.start - (self.text.rfind("\n", 0, token.start) + 1) + 1
        return Refusal(f"line {line}:{column}: Syntax error at {token.text!r}: {what} is expected")


def _statement(reader: _Reader) -> Statement:
    first = reader.next
    if first is None:
        raise Refusal("Syntax error: the statement is empty")
    if first.is_word("SELECT"):
        return PullQuery(_pull(reader))
    if reader.accept("CREATE"):
        return _create(reader)
    if first.kind == "word" and first.text.upper() in _OTHER_STATEMENTS:
        raise unsupported(f"{first.text.upper()} statements")
    raise reader.unexpected(first, "a statement")


def _create(reader: _Reader) -> Statement:
    if reader.accept("OR", "REPLACE"):
        raise unsupported("OR REPLACE")
    kind: SourceKind
    if reader.accept("STREAM"):
        kind = "STREAM"
    elif reader.accept("TABLE"):
        kind = "TABLE"
    else:
        token = reader.take("STREAM or TABLE")
        if token.is_word("SOURCE", "TYPE", "SINK", "CONNECTOR", "FUNCTION"):
            raise unsupported(f"CREATE {token.text.upper()}")
        raise reader.unexpected(token, "STREAM or TABLE")
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    name = reader.identifier("a name")
    columns = _columns(reader) if reader.next is not None and reader.next.is_symbol("(") else None
    properties = _properties(reader) if reader.accept("WITH") else None
    if reader.accept("AS"):
        if columns is not None:
            raise Refusal("Syntax error: a statement has either columns or AS SELECT")
        if properties is not None:
            raise unsupported("WITH on a persistent query: it writes no topic")
        select, partition_by = _persistent(reader)
        return CreateAs(kind, name, if_not_exists, select, partition_by)
    if reader.next is not None:
        raise reader.unexpected(reader.next, "AS or the end")
    if kind == "TABLE":
        raise unsupported("CREATE TABLE over a topic")
    if properties is None:
        raise Refusal('Missing required property "KAFKA_TOPIC" which has no default value.')
    if not columns:
        raise Refusal("The statement does not define any columns.")
    return CreateStream(name, if_not_exists, columns, properties)


def _columns(reader: _Reader) -> tuple[Column, ...]:
    reader.expect_symbol("(")
    columns: list[Column] = []
    while True:
        name = reader.identifier("a column name")
        if name in _RESERVED_COLUMNS:
            raise Refusal(f"'{name}' is a reserved column name.")
        column = Column(name, _type(reader))
        if reader.next is not None and reader.next.is_word("KEY", "PRIMARY", "HEADERS", "HEADER"):
            raise unsupported(f"{reader.next.text.upper()} columns")
        if any(column.name == other.name for other in columns):
            raise Refusal(f"Duplicate column names: `{name}`")
        columns.append(column)
        if not reader.accept_symbol(","):
            break
    reader.expect_symbol(")")
    return tuple(columns)


def _type(reader: _Reader) -> SqlType:
    token = reader.take("a type")
    if token.is_word("ARRAY"):
        reader.expect_symbol("<")
        element = _type(reader)
        reader.expect_symbol(">")
        return array_of(element)
    if token.kind != "word":
        raise reader.unexpected(token, "a type")
    known = SCALARS.get(token.text.upper())
    if known is None:
        raise unsupported(f"the type {token.text.upper()}")
    return known


def _properties(reader: _Reader) -> dict[str, str]:
    reader.expect_symbol("(")
    properties: dict[str, str] = {}
    while True:
        token = reader.take("a property")
        name = token.value.upper() if token.kind == "string" else token.name
        reader.expect_symbol("=")
        value = reader.take("a value")
        if value.kind not in ("string", "number", "word"):
            raise reader.unexpected(value, "a value")
        if name in properties:
            raise Refusal(f"Duplicate config: {name}")
        properties[name] = value.value if value.kind == "string" else value.text
        if not reader.accept_symbol(","):
            break
    reader.expect_symbol(")")
    return properties


def _persistent(reader: _Reader) -> tuple[str, str | None]:
    """The SELECT core and the PARTITION BY clause of a persistent query; EMIT CHANGES is its only way to emit."""
    start = reader.take("SELECT")
    if not start.is_word("SELECT"):
        raise reader.unexpected(start, "SELECT")
    core_end = clause_start = None
    clause_end = len(reader.text)
    while (token := reader.next) is not None:
        if token.is_word("EMIT"):
            clause_end = token.start
            reader.at += 1
            if reader.accept("FINAL"):
                raise unsupported("EMIT FINAL")
            if not reader.accept("CHANGES") or reader.next is not None:
                raise Refusal("Syntax error: a persistent query ends in EMIT CHANGES")
            break
        if token.is_word("PARTITION") and reader.accept("PARTITION", "BY"):
            core_end = token.start
            clause_start = reader.tokens[reader.at - 1].end
            continue
        reader.at += 1
    if clause_start is None:
        return reader.text[start.start : clause_end].strip(), None
    return reader.text[start.start : core_end].strip(), reader.text[clause_start:clause_end].strip()


def _pull(reader: _Reader) -> str:
    if any(token.is_word("EMIT") for token in reader.tokens):
        raise unsupported("push queries (EMIT)")
    return reader.text
