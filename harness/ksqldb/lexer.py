"""ksqlDB's lexical rules: enough to cut a file into statements and to read a statement word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "quoted", "string", "number", "symbol"]

_LEXEME = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<line_comment>--[^\r\n]*)
    | (?P<block_comment>/\*.*?\*/)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>`(?:[^`]|``)*`|"(?:[^"]|"")*")
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_@]*)
    | (?P<symbol><>|!=|<=|>=|=>|->|:=|\|\||[^\w\s'"`])
    """,
    re.VERBOSE | re.DOTALL,
)


class LexicalError(ValueError):
    """The text is not made of ksqlDB's words; the message names the line."""


@dataclass(frozen=True)
class Token:
    """One word of a statement. ``text`` is as written; ``start`` and ``end`` are its place in the text."""

    kind: Kind
    text: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        """Whether this is one of the unquoted ``words`` (given in upper case), in any case."""
        return self.kind == "word" and self.text.upper() in words

    def is_symbol(self, symbol: str) -> bool:
        return self.kind == "symbol" and self.text == symbol

    @property
    def name(self) -> str:
        """The identifier that this token stands for: upper-case unless it was quoted."""
        if self.kind == "quoted":
            quote = self.text[0]
            return self.text[1:-1].replace(quote * 2, quote)
        return self.text.upper()

    @property
    def value(self) -> str:
        """The content of a string literal."""
        return self.text[1:-1].replace("''", "'")


def tokens(text: str) -> Iterator[Token]:
    """The tokens of ``text`` without white space and comments. Raises LexicalError."""
    at = 0
    while at < len(text):
        match = _LEXEME.match(text, at)
        if match is None or (match.lastgroup == "symbol" and text.startswith("/*", at)):
            raise LexicalError(f"line {_line(text, at)}: {text[at : at + 20]!r} is not closed or not ksqlDB")
        kind = match.lastgroup
        if kind == "line_comment" and match.group() == "--":
            raise LexicalError(
                f"line {_line(text, at)}: a comment needs text after its '--': "
                "ksqlDB takes the following line for a part of an empty one"
            )
        if kind in ("word", "quoted", "string", "number", "symbol"):
            yield Token(kind, match.group(), at, match.end())  # type: ignore[arg-type]
        at = match.end()


def split(text: str) -> list[str]:
    """The statements of ``text``, each without its comments and closing semicolon. Raises LexicalError.

    The layout inside a statement is not kept: every run of white space and comments becomes one space.
    """
    statements: list[str] = []
    words: list[str] = []
    previous: Token | None = None
    for token in tokens(text):
        if token.is_symbol(";"):
            if words:
                statements.append("".join(words))
            words, previous = [], None
            continue
        if previous is not None and token.start > previous.end:
            words.append(" ")
        words.append(token.text)
        previous = token
    if words:
        statements.append("".join(words))
    return statements


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
