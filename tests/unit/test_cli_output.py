import json

import pytest

from econeura_daemon.cli.output import Output, cell, columns_of, fitted, padded, plain, pretty, table

COLUMNS = [("name", lambda row: row["name"]), ("size", lambda row: row["size"])]
ROWS = [{"name": "a" * 30, "size": 1}, {"name": "b", "size": None}]


def test_a_table_has_headings_and_columns_as_wide_as_what_stands_in_them():
    assert table(ROWS, COLUMNS, None) == ["NAME" + " " * 28 + "SIZE", "a" * 30 + "  1", "b" + " " * 31 + "-"]


def test_on_a_terminal_the_widest_column_is_cut():
    lines = table(ROWS, COLUMNS, 20)
    assert lines[1] == "aaaaaaaaaaaaa…  1"
    assert all(len(line) <= 20 for line in lines)


def test_columns_are_not_cut_to_nothing():
    assert fitted([30, 30], 10) == [8, 8]
    assert fitted([3, 4], 100) == [3, 4]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (5, "5"),
        ("", ""),
        (["a", "b"], "a, b"),
        ([], "-"),
        ({}, "-"),
        ({"a": [1]}, '{"a":[1]}'),
        ([{"a": 1}], '[{"a":1}]'),
        ("a\x1b[31m\n\u202eb", "a\\x1b[31m\\x0a\\x202eb"),
    ],
)
def test_a_cell_says_a_value_and_moves_no_cursor(value, text):
    assert cell(value) == text
    assert plain(text) == text


def test_wide_characters_take_two_columns_and_accents_none():
    assert columns_of("日本") == 4
    assert columns_of("e\u0301") == 1
    assert padded("日本語", 5) == "日本…"
    assert columns_of(padded("日本語", 4)) == 4


def test_json_is_a_list_and_jsonl_a_line_each(capsys):
    Output("json").rows(ROWS, COLUMNS, empty="none")
    assert json.loads(capsys.readouterr().out) == ROWS
    Output("jsonl").rows(ROWS, COLUMNS, empty="none")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


def test_an_empty_list_is_a_sentence_beside_the_output_and_an_empty_list_in_json(capsys):
    Output().rows([], COLUMNS, empty="Nothing.")
    assert capsys.readouterr() == ("", "Nothing.\n")
    Output("json").rows([], COLUMNS, empty="Nothing.")
    assert capsys.readouterr() == ("[]\n", "")
    Output("jsonl").rows([], COLUMNS, empty="Nothing.")
    assert capsys.readouterr() == ("", "")


def test_a_record_is_a_line_a_field(capsys):
    Output().record({"id": "x", "lastAttemptAt": None})
    assert capsys.readouterr().out == "id               x\nlast attempt at  -\n"
    Output("json").record({"id": "x"})
    assert capsys.readouterr().out == pretty({"id": "x"}) + "\n"


def test_a_line_as_it_comes_is_cut_to_the_terminal(capsys):
    Output(width=10).line(ROWS[0], COLUMNS)
    Output().line(ROWS[0], COLUMNS)
    Output("jsonl").line(ROWS[1], COLUMNS)
    assert capsys.readouterr().out == "aaaaaaaaa…\n" + "a" * 30 + '  1\n{"name":"b","size":null}\n'
