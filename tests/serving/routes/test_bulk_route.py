import json

import pytest
from hypothesis import given, strategies as st
from pydantic import ConfigDict

from serving.bodies.clean_body import CleanBody
from serving.routes.bulk_route import MOST_PROBLEMS, BadBody, RowsBody


class Row(CleanBody):
    model_config = ConfigDict(extra="forbid", strict=True)
    n: int
    text: str | None = None


BODY = RowsBody("rows", Row, most=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
SPACES = st.text(" \t\r\n", max_size=3)


@given(
    st.lists(st.tuples(st.integers(), st.none() | st.text()), min_size=1, max_size=5),
    st.lists(SPACES, min_size=8, max_size=8),
)
def test_rows_are_read_in_order_however_they_are_spaced(rows, spaces):
    a, b, c, d, e, f, g, h = spaces
    texts = [json.dumps({"n": n, "text": text}, ensure_ascii=n % 2 == 0) for n, text in rows]
    content = f'{a}{{{b}"rows"{c}:{d}[{e}{f"{f},{g}".join(texts)}{h}]{a}}}{b}'

    read = BODY.read(content.encode(errors="surrogatepass"))
    assert [(row.n, row.text) for row in read] == rows


@given(st.binary(max_size=100) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_rows_or_refused(content):
    try:
        rows = BODY.read(content)
    except BadBody:
        pass
    else:
        assert rows
        assert all(isinstance(row, Row) for row in rows)


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(0, 200))
def test_what_is_no_whole_body_is_refused(rows, cut):
    content = json.dumps({"rows": rows}).encode()
    with pytest.raises(BadBody):
        BODY.read(content[: min(cut, len(content) - 1)])


def test_a_single_row_needs_no_list():
    assert BODY.read(b' {"n": 1} ') == [Row(n=1)]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1" * 5_000, "1e999"])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(BadBody):
        BODY.read(f'{{"rows": [{{"n": {number}}}]}}'.encode())


def test_no_more_problems_are_looked_for_than_are_told():
    body = RowsBody("rows", Row, most=10_000)
    with pytest.raises(BadBody) as refused:
        body.read(json.dumps({"rows": [{"n": "1"}] * 10_000}).encode())

    assert len(refused.value.errors) == MOST_PROBLEMS
    assert refused.value.errors[7]["loc"] == ("rows", 7, "n")
