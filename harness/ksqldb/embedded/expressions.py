"""ksqlDB expressions as DuckDB SQL.

sqlglot's tree is read through a list of permitted nodes; any other node is refused, so that nothing is carried out
that might mean something else in ksqlDB. Where DuckDB would behave differently, the SQL that is made here says
what ksqlDB does: integers wrap around, a comparison with null is false and not null.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from sqlglot import exp, parse_one, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from harness.ksqldb.embedded.catalog import BIGINT, BOOLEAN, INTEGER, NUMERIC, STRING, SqlType
from harness.ksqldb.embedded.errors import Refusal, unsupported

_COMPARISONS: dict[type[exp.Expression], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_ARITHMETIC: dict[type[exp.Expression], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}


class KsqlDialect(Dialect):
    """What sqlglot has to know of ksqlDB's words: its two ways to quote an identifier."""

    class Tokenizer(tokens.Tokenizer):
        IDENTIFIERS: ClassVar[list[str | tuple[str, str]]] = ["`", '"']
        QUOTES: ClassVar[list[str | tuple[str, str]]] = ["'"]


@dataclass(frozen=True)
class Typed:
    """A piece of DuckDB SQL and the ksqlDB type of its values."""

    sql: str
    type: SqlType


Resolve = Callable[[exp.Column], Typed]
"""Finds the column that a reference means. Raises Refusal."""


def parse_select(text: str) -> exp.Select:
    """The tree of a SELECT. Raises Refusal."""
    try:
        tree = parse_one(text, read=KsqlDialect)
    except SqlglotError as error:
        raise Refusal(f"Syntax error: {_first_line(error)}") from error
    if not isinstance(tree, exp.Select):
        raise unsupported(f"{tree.key.upper()} in place of a plain SELECT")
    return tree


def parse_expression(text: str) -> exp.Expression:
    """The tree of a single expression. Raises Refusal."""
    select = parse_select(f"SELECT {text}")
    if len(select.expressions) != 1:
        raise unsupported("several expressions here")
    permit(select, "expressions")
    expression: exp.Expression = select.expressions[0]
    return expression


def permit(node: exp.Expression, *arguments: str) -> None:
    """Refuse ``node`` if it carries anything besides ``arguments``: sqlglot reads more than ksqlDB knows."""
    for name, value in node.args.items():
        if value and name not in arguments:
            raise unsupported(f"{name.strip('_').upper()} in {node.key.upper()}")


def name_of(identifier: exp.Identifier) -> str:
    """ksqlDB's name for an identifier: upper-case unless it was quoted."""
    text: str = identifier.this
    return text if identifier.args.get("quoted") else text.upper()


def compile_expression(node: exp.Expression, resolve: Resolve, *, aggregates: bool = False) -> Typed:
    """``node`` as DuckDB SQL.

    With ``aggregates`` the functions MIN, MAX and LATEST_BY_OFFSET may be called; their relation must have a
    column ``seq``. Columns outside of them are then the caller's to check, in ``resolve``.
    """
    return _Compiler(resolve, aggregates).value(node)


class _Compiler:
    def __init__(self, resolve: Resolve, aggregates: bool) -> None:
        self.resolve = resolve
        self.aggregates = aggregates

    def value(self, node: exp.Expression) -> Typed:
        match node:
            case exp.Paren():
                permit(node, "this")
                inner = self.value(node.this)
                return Typed(f"({inner.sql})", inner.type)
            case exp.Column():
                return self.resolve(node)
            case exp.Literal():
                return _literal(node)
            case exp.Boolean():
                return Typed("TRUE" if node.this else "FALSE", BOOLEAN)
            case exp.Neg():
                permit(node, "this")
                return self.negated(node)
            case exp.Add() | exp.Sub() | exp.Mul():
                permit(node, "this", "expression")
                return self.arithmetic(node)
            case exp.Min() | exp.Max() | exp.Anonymous():
                return self.aggregate(node)
        return Typed(self.condition(node), BOOLEAN)

    def condition(self, node: exp.Expression) -> str:
        """SQL that is TRUE or FALSE and never null, as ksqlDB's conditions are."""
        match node:
            case exp.Paren():
                permit(node, "this")
                return f"({self.condition(node.this)})"
            case exp.And() | exp.Or():
                permit(node, "this", "expression")
                word = "AND" if isinstance(node, exp.And) else "OR"
                return f"({self.condition(node.this)} {word} {self.condition(node.expression)})"
            case exp.Not():
                permit(node, "this")
                return f"(NOT {self.condition(node.this)})"
            case exp.Is():
                permit(node, "this", "expression")
                if not isinstance(node.expression, exp.Null):
                    raise unsupported("IS with anything but NULL")
                return f"({self.value(node.this).sql} IS NULL)"
            case exp.Between():
                permit(node, "this", "low", "high")
                value = self.value(node.this)
                low = _compare(value, ">=", self.value(node.args["low"]))
                return f"({low} AND {_compare(value, '<=', self.value(node.args['high']))})"
            case exp.In():
                permit(node, "this", "expressions")
                value = self.value(node.this)
                return "(" + " OR ".join(_compare(value, "=", self.value(i)) for i in node.expressions) + ")"
        operator = _COMPARISONS.get(type(node))
        if operator is None:
            raise unsupported(f"{node.key.upper()} here: {node.sql()[:80]}")
        permit(node, "this", "expression")
        return _compare(self.value(node.this), operator, self.value(node.expression))

    def arithmetic(self, node: exp.Expression) -> Typed:
        left, right = self.value(node.this), self.value(node.expression)
        if left.type not in NUMERIC or right.type not in NUMERIC:
            raise Refusal(
                f"Unsupported arithmetic types. {left.type.name} {right.type.name}: {node.sql(dialect=KsqlDialect)}"
            )
        operator = _ARITHMETIC[type(node)]
        if left.type == right.type == INTEGER:
            return Typed(f"wrap32({left.sql}::BIGINT {operator} {right.sql}::BIGINT)", INTEGER)
        return Typed(f"wrap64({left.sql}::HUGEINT {operator} {right.sql}::HUGEINT)", BIGINT)

    def negated(self, node: exp.Neg) -> Typed:
        if isinstance(node.this, exp.Literal) and not node.this.is_string:
            return _literal(node.this, negative=True)
        inner = self.value(node.this)
        if inner.type not in NUMERIC:
            raise Refusal(f"Negation is not applicable to {inner.type.name}")
        wrap, wide = ("wrap32", "BIGINT") if inner.type == INTEGER else ("wrap64", "HUGEINT")
        return Typed(f"{wrap}(-({inner.sql}::{wide}))", inner.type)

    def aggregate(self, node: exp.Expression) -> Typed:
        if isinstance(node, exp.Anonymous):
            permit(node, "this", "expressions")
            name, arguments = str(node.this).upper(), node.expressions
        else:
            permit(node, "this", "expressions")
            name, arguments = node.key.upper(), [node.this, *node.expressions]
        if name not in ("MIN", "MAX", "LATEST_BY_OFFSET"):
            raise unsupported(f"the function {name}")
        if len(arguments) != 1:
            raise unsupported(f"{name} with {len(arguments)} arguments")
        if not self.aggregates:
            raise Refusal(f"Aggregate functions need a GROUP BY and cannot be nested: {name}")
        argument = _Compiler(_inside(self.resolve), aggregates=False).value(arguments[0])
        if name == "LATEST_BY_OFFSET":
            return Typed(f"arg_max({argument.sql}, seq) FILTER (({argument.sql}) IS NOT NULL)", argument.type)
        if argument.type not in NUMERIC:
            raise unsupported(f"{name} of {argument.type.name}")
        return Typed(f"{name.lower()}({argument.sql})", argument.type)


def _inside(resolve: Resolve) -> Resolve:
    """The resolver for an aggregate's argument, where every column may stand."""
    return getattr(resolve, "inside_aggregate", resolve)


def _literal(node: exp.Literal, *, negative: bool = False) -> Typed:
    text: str = node.this
    if node.is_string:
        return Typed("'" + text.replace("'", "''") + "'", STRING)
    if not text.isdecimal():
        raise unsupported(f"the number {text}: only whole ones")
    number = -int(text) if negative else int(text)
    if -(2**31) <= number < 2**31:
        return Typed(f"({number})::INTEGER", INTEGER)
    if -(2**63) <= number < 2**63:
        return Typed(f"({number})::BIGINT", BIGINT)
    raise Refusal(f"Invalid numeric literal: {number}")


def _compare(left: Typed, operator: str, right: Typed) -> str:
    numeric = left.type in NUMERIC and right.type in NUMERIC
    same = left.type == right.type and left.type in (STRING, BOOLEAN)
    if not (numeric or same) or (left.type == BOOLEAN and operator not in ("=", "<>")):
        raise Refusal(f"Cannot compare {left.type.name} to {right.type.name} with {operator}.")
    return f"COALESCE({left.sql} {operator} {right.sql}, FALSE)"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
