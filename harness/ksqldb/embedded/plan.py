"""From a statement to the DuckDB query that gives what ksqlDB would give.

Every persistent query becomes a DuckDB view over the views and tables below it, so a table is always
exactly what follows from the records read so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from harness.ksqldb.embedded.catalog import Catalog, Column, Definition, Source
from harness.ksqldb.embedded.errors import Refusal, unsupported
from harness.ksqldb.embedded.expressions import (
    Typed,
    compile_expression,
    name_of,
    parse_expression,
    parse_select,
    permit,
)
from harness.ksqldb.embedded.grammar import CreateAs, CreateStream, PullQuery

PartitionCount = Callable[[str], int]
"""How many partitions a topic has. Raises Refusal when there is no such topic."""


@dataclass(frozen=True)
class Pull:
    """A pull query ready to run: ``sql`` gives the values of ``columns`` as DuckDB columns ``c0, c1, ...``."""

    columns: tuple[Column, ...]
    sql: str
    topics: frozenset[str]


def plan_stream(statement: CreateStream, catalog: Catalog, partition_count: PartitionCount) -> Definition:
    """A stream over a topic. Raises Refusal."""
    properties = dict(statement.properties)
    topic = properties.pop("KAFKA_TOPIC", None)
    if topic is None:
        raise Refusal('Missing required property "KAFKA_TOPIC" which has no default value.')
    formats = {properties.pop(name) for name in ("VALUE_FORMAT", "FORMAT") if name in properties}
    if {name.upper() for name in formats} != {"JSON"}:
        raise unsupported(f"value formats other than JSON: {', '.join(sorted(formats)) or 'none is given'}")
    if properties.pop("KEY_FORMAT", "KAFKA").upper() != "KAFKA":
        raise unsupported("key formats other than KAFKA")
    partitions = partition_count(topic)
    asked = properties.pop("PARTITIONS", None)
    if asked is not None and asked != str(partitions):
        raise Refusal(
            f"A Kafka topic with the name '{topic}' already exists, with different partition/replica "
            f"configuration than required. KSQL expects {asked} partitions, topic has {partitions}."
        )
    if properties:
        raise unsupported(f"the property {', '.join(sorted(properties))} of a stream")
    source = Source(
        statement.name, "STREAM", statement.columns, catalog.next_relation(), frozenset({topic}), partitions
    )
    return Definition(source, topic=topic)


def plan_query(statement: CreateAs, catalog: Catalog) -> Definition:
    """A stream or table AS SELECT. Raises Refusal."""
    select = parse_select(statement.select)
    permit(select, "expressions", "from_", "joins", "group")
    scope = _scope(select, catalog)
    if statement.kind == "STREAM":
        return _plan_derived_stream(statement, select, scope, catalog)
    if statement.partition_by is not None:
        raise Refusal("PARTITION BY is only for streams: a table is partitioned by its key.")
    if select.args.get("joins"):
        return _plan_join(statement, select, scope, catalog)
    return _plan_aggregate(statement, select, scope, catalog)


def plan_pull(query: PullQuery, catalog: Catalog) -> Pull:
    """A SELECT on a table as it is now. Raises Refusal."""
    select = parse_select(query.select)
    permit(select, "expressions", "from_", "where", "limit")
    scope = _scope(select, catalog)
    source = scope.only_source("a pull query")
    if source.kind != "TABLE":
        raise unsupported(f"pull queries on streams: {source.name}")
    outputs = _outputs(select, scope, lambda node: compile_expression(node, scope.resolve))
    sql = f"SELECT {_select_list(outputs)} FROM {source.relation} {scope.sources[0][0]}"
    where = select.args.get("where")
    if where is not None:
        condition = compile_expression(where.this, scope.resolve)
        if condition.type.name != "BOOLEAN":
            raise Refusal(f"Type error in WHERE expression: it should be BOOLEAN and is {condition.type.name}.")
        sql += f" WHERE {condition.sql}"
    limit = select.args.get("limit")
    if limit is not None:
        permit(limit, "expression")
        count = limit.expression
        if not isinstance(count, exp.Literal) or count.is_string or not count.this.isdecimal():
            raise Refusal("LIMIT takes a whole number.")
        sql += f" LIMIT {int(count.this)}"
    columns = tuple(
        Column(output.name, output.value.type, output.name_in_source == _key_name(source)) for output in outputs
    )
    return Pull(columns, sql, source.topics)


@dataclass(frozen=True)
class _Output:
    """One item of a projection. ``name_in_source`` is set where it is nothing but a column."""

    name: str
    value: Typed
    name_in_source: str | None = None
    alias_of_source: str | None = None


@dataclass(frozen=True)
class _Scope:
    """The sources that a query reads, with the ksqlDB name and the DuckDB alias of each."""

    sources: tuple[tuple[str, str, Source], ...]

    def only_source(self, what: str) -> Source:
        if len(self.sources) != 1:
            raise unsupported(f"joins in {what}")
        return self.sources[0][2]

    def find(self, node: exp.Column) -> tuple[str, str, Source, int]:
        """The ksqlDB alias, DuckDB alias, source and place of the column that ``node`` refers to."""
        permit(node, "this", "table")
        if not isinstance(node.this, exp.Identifier):
            raise unsupported("'*' here")
        name = name_of(node.this)
        qualifier = node.args.get("table")
        wanted = None if qualifier is None else name_of(qualifier)
        if wanted is not None and all(wanted != alias for _, alias, _ in self.sources):
            raise Refusal(f"'{wanted}' is not a stream/table name or alias.")
        found = [
            (alias, relation, source, place)
            for relation, alias, source in self.sources
            if (wanted is None or wanted == alias) and (place := source.position(name)) is not None
        ]
        if not found:
            raise Refusal(f"Column '{'' if wanted is None else wanted + '.'}{name}' cannot be resolved.")
        if len(found) > 1:
            options = " or ".join(f"{alias}.{name}" for alias, *_ in found)
            raise Refusal(f"Column '{name}' is ambiguous. Could be {options}.")
        return found[0]

    def resolve(self, node: exp.Column) -> Typed:
        _, relation, source, place = self.find(node)
        return Typed(f"{relation}.c{place}", source.columns[place].type)


def _scope(select: exp.Select, catalog: Catalog) -> _Scope:
    source = select.args.get("from_")
    if source is None:
        raise Refusal("Syntax error: FROM is missing")
    permit(source, "this")
    sources = [_named_source(source.this, catalog, 0)]
    for join in select.args.get("joins") or []:
        sources.append(_named_source(join.this, catalog, len(sources)))
    if len({alias for _, alias, _ in sources}) != len(sources):
        raise Refusal("Each side of a join needs its own name or alias.")
    return _Scope(tuple(sources))


def _named_source(node: exp.Expression, catalog: Catalog, place: int) -> tuple[str, str, Source]:
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        raise unsupported(f"reading from {node.key.upper()}")
    permit(node, "this", "alias")
    name = name_of(node.this)
    source = catalog.find(name)
    if source is None:
        raise Refusal(f"{name} does not exist.")
    alias = node.args.get("alias")
    if alias is not None:
        permit(alias, "this")
        name = name_of(alias.this)
    return f"s{place}", name, source


def _outputs(select: exp.Select, scope: _Scope, compile_: Callable[[exp.Expression], Typed]) -> list[_Output]:
    """The projection with ksqlDB's names: aliases, plain columns, ``KSQL_COL_n`` for the rest."""
    outputs: list[_Output] = []
    generated = 0
    for item in select.expressions:
        if isinstance(item, exp.Star):
            permit(item)
            source = scope.only_source("SELECT *")
            for place, column in enumerate(source.columns):
                value = Typed(f"{scope.sources[0][0]}.c{place}", column.type)
                outputs.append(_Output(column.name, value, column.name, scope.sources[0][1]))
            continue
        node, name = item, None
        if isinstance(item, exp.Alias):
            permit(item, "this", "alias")
            node, name = item.this, name_of(item.args["alias"])
        value = compile_(node)
        column_name = source_alias = None
        if isinstance(node, exp.Column):
            source_alias, _, source, place = scope.find(node)
            column_name = source.columns[place].name
            if name is None:
                shared = sum(other.position(column_name) is not None for _, _, other in scope.sources) > 1
                name = f"{source_alias}_{column_name}" if shared else column_name
        if name is None:
            name = f"KSQL_COL_{generated}"
            generated += 1
        outputs.append(_Output(name, value, column_name, source_alias))
    if not outputs:
        raise Refusal("Syntax error: the SELECT names no columns")
    names = [output.name for output in outputs]
    for name in names:
        if names.count(name) > 1:
            raise Refusal(f"The projection contains more than one column named `{name}`.")
    return outputs


def _select_list(outputs: list[_Output]) -> str:
    return ", ".join(f"{output.value.sql} AS c{place}" for place, output in enumerate(outputs))


def _key_first(outputs: list[_Output], key: _Output | None) -> tuple[list[_Output], tuple[Column, ...]]:
    """ksqlDB's column order: the key, then the rest as projected."""
    ordered = sorted(outputs, key=lambda output: output is not key)
    return ordered, tuple(Column(o.name, o.value.type, o is key) for o in ordered)


def _key_name(source: Source) -> str | None:
    return None if source.key is None else source.key.name


def _key_output(outputs: list[_Output], alias: str, column: str, clause: str) -> _Output:
    """The one projected item that is the key. Raises Refusal as ksqlDB does when there is none."""
    found = [o for o in outputs if o.name_in_source == column and o.alias_of_source == alias]
    if not found:
        raise Refusal(
            "Key missing from projection (ie, SELECT). "
            f"The query used to build the source must include the {clause} {column} in its projection."
        )
    if len(found) > 1:
        names = " and ".join(f"`{output.name}`" for output in found)
        raise Refusal(f"The projection contains a key column ({column}) more than once, aliased as: {names}.")
    return found[0]


def _plan_derived_stream(statement: CreateAs, select: exp.Select, scope: _Scope, catalog: Catalog) -> Definition:
    permit(select, "expressions", "from_")
    source = scope.only_source("a stream")
    if source.kind != "STREAM":
        raise Refusal(
            f"Invalid result type. Your SELECT query produces a TABLE. Please use CREATE TABLE {statement.name}."
        )
    alias = scope.sources[0][1]
    outputs = _outputs(select, scope, lambda node: compile_expression(node, scope.resolve))
    key_name = _key_name(source)
    if statement.partition_by is not None:
        node = parse_expression(statement.partition_by)
        if not isinstance(node, exp.Column):
            raise unsupported("PARTITION BY anything but a column")
        _, _, _, place = scope.find(node)
        key_name = source.columns[place].name
        if source.columns[place].type.element is not None:
            raise unsupported(f"PARTITION BY {source.columns[place].type.name}")
    key = None if key_name is None else _key_output(outputs, alias, key_name, "partitioning expression")
    ordered, columns = _key_first(outputs, key)
    sql = f"SELECT {_select_list(ordered)}, s0.seq AS seq FROM {source.relation} s0"
    made = Source(statement.name, "STREAM", columns, catalog.next_relation(), source.topics, source.partitions)
    return Definition(made, query=sql, query_prefix="CSAS")


def _plan_aggregate(statement: CreateAs, select: exp.Select, scope: _Scope, catalog: Catalog) -> Definition:
    source = scope.only_source("an aggregation")
    if source.kind != "STREAM":
        raise unsupported("tables derived from a single table")
    group = select.args.get("group")
    if group is None:
        raise Refusal(
            f"Invalid result type. Your SELECT query produces a STREAM. Please use CREATE STREAM {statement.name}."
        )
    permit(group, "expressions")
    if len(group.expressions) != 1 or not isinstance(group.expressions[0], exp.Column):
        raise unsupported("GROUP BY anything but one column")
    alias, _, _, place = scope.find(group.expressions[0])
    grouped = source.columns[place]
    if grouped.type.element is not None:
        raise unsupported(f"GROUP BY {grouped.type.name}")
    resolve = _Grouped(scope, place)
    outputs = _outputs(select, scope, lambda node: compile_expression(node, resolve, aggregates=True))
    if not any(node.find(exp.Min, exp.Max, exp.Anonymous) for node in select.expressions):
        raise Refusal("GROUP BY requires aggregate functions in either the SELECT or HAVING clause.")
    key = _key_output(outputs, alias, grouped.name, "grouping expression")
    ordered, columns = _key_first(outputs, key)
    sql = f"SELECT {_select_list(ordered)} FROM {source.relation} s0 WHERE s0.c{place} IS NOT NULL GROUP BY s0.c{place}"
    made = Source(statement.name, "TABLE", columns, catalog.next_relation(), source.topics, source.partitions)
    return Definition(made, query=sql, query_prefix="CTAS")


@dataclass(frozen=True)
class _Grouped:
    """Resolves columns of an aggregation: outside of aggregates only the grouping column may stand."""

    scope: _Scope
    grouped: int

    def __call__(self, node: exp.Column) -> Typed:
        _, _, source, place = self.scope.find(node)
        if place != self.grouped:
            raise Refusal(f"Non-aggregate SELECT expression(s) not part of GROUP BY: {source.columns[place].name}")
        return self.scope.resolve(node)

    def inside_aggregate(self, node: exp.Column) -> Typed:
        return self.scope.resolve(node)


def _plan_join(statement: CreateAs, select: exp.Select, scope: _Scope, catalog: Catalog) -> Definition:
    permit(select, "expressions", "from_", "joins")
    if len(scope.sources) != 2:
        raise unsupported("joins of more than two sources")
    (left_relation, left_alias, left), (right_relation, right_alias, right) = scope.sources
    join = select.args["joins"][0]
    if join.side != "LEFT" or join.kind not in ("", "OUTER"):
        raise unsupported(f"{join.side} {join.kind} JOIN".replace("  ", " ").strip())
    permit(join, "this", "side", "kind", "on")
    if left.kind != "TABLE" or right.kind != "TABLE":
        raise unsupported("joins with a stream")
    if left.partitions != right.partitions:
        raise Refusal(
            f"Can't join `{left_alias}` with `{right_alias}` since the number of partitions don't match. "
            f"`{left_alias}` partitions = {left.partitions}; `{right_alias}` partitions = {right.partitions}."
        )
    left_place, right_place = _join_keys(join.args.get("on"), scope)
    if left.columns[left_place].type != right.columns[right_place].type:
        raise Refusal("Invalid join condition: types don't match.")
    outputs = _outputs(select, scope, lambda node: compile_expression(node, scope.resolve))
    key = _key_output(outputs, left_alias, left.columns[left_place].name, "join expression")
    ordered, columns = _key_first(outputs, key)
    sql = (
        f"SELECT {_select_list(ordered)} FROM {left.relation} {left_relation} "
        f"LEFT JOIN {right.relation} {right_relation} "
        f"ON {left_relation}.c{left_place} = {right_relation}.c{right_place}"
    )
    made = Source(
        statement.name, "TABLE", columns, catalog.next_relation(), left.topics | right.topics, left.partitions
    )
    return Definition(made, query=sql, query_prefix="CTAS")


def _join_keys(condition: exp.Expression | None, scope: _Scope) -> tuple[int, int]:
    """The places of the two primary keys that an ON clause equates, left source first."""
    if isinstance(condition, exp.Paren):
        condition = condition.this
    if (
        not isinstance(condition, exp.EQ)
        or not isinstance(condition.this, exp.Column)
        or not isinstance(condition.expression, exp.Column)
    ):
        raise unsupported("joins ON anything but the equality of two columns")
    permit(condition, "this", "expression")
    found = [scope.find(node) for node in (condition.this, condition.expression)]
    sides = {relation: (source, place) for _, relation, source, place in found}
    if set(sides) != {"s0", "s1"}:
        raise Refusal("Invalid join condition: it must compare a column of each side.")
    for source, place in sides.values():
        if not source.columns[place].is_key:
            raise unsupported(f"joins on {source.columns[place].name}, which is not the primary key of {source.name}")
    return sides["s0"][1], sides["s1"][1]
