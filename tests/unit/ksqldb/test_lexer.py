from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.ksqldb.lexer import LexicalError, split, tokens


def test_statements_are_cut_at_semicolons_that_stand_outside_of_quotes() -> None:
    text = "CREATE STREAM a WITH (x=';'); SELECT `a;b`, \"c;d\" FROM t"
    assert split(text) == ["CREATE STREAM a WITH (x=';')", 'SELECT `a;b`, "c;d" FROM t']


def test_comments_go_and_what_looks_like_one_in_a_string_stays() -> None:
    text = "-- first; comment\nSELECT '--no comment /* nor this */' -- last\nFROM /* ; */ t;"
    assert split(text) == ["SELECT '--no comment /* nor this */' FROM t"]


def test_a_quote_in_a_string_is_written_twice() -> None:
    assert split("SELECT 'it''s; fine';") == ["SELECT 'it''s; fine'"]


def test_empty_statements_are_left_out() -> None:
    assert split(" ; -- nothing\n ;; ") == []


def test_a_bare_comment_marker_is_refused_because_ksqldb_swallows_the_next_line() -> None:
    with pytest.raises(LexicalError, match="line 2"):
        split("SELECT 1;\n--\nSELECT 2;")


@pytest.mark.parametrize("text", ["SELECT 'open", "SELECT `open", 'SELECT "open', "SELECT /* open"])
def test_what_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(LexicalError, match="not closed"):
        split(text)


def test_identifiers_are_upper_case_unless_quoted() -> None:
    assert [token.name for token in tokens('pizzaId `pizzaId` "a""b"')] == ["PIZZAID", "pizzaId", 'a"b']


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_any_string_literal_survives_splitting(contents: list[str]) -> None:
    statements = ["SELECT '" + content.replace("'", "''") + "'" for content in contents]
    assert split(";\n".join(statements)) == statements
