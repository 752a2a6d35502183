import math

import numpy as np
import pytest

from fdl.data import load_csv
from fdl.errors import InputError

PETS = "weight,kind,legs\n4.1,cat,4\n,dog,4\n0.03,bird,2\n"


def write(folder, content, name="my table.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def columns(table):
    return {name: column.text.tolist() for name, column in table.columns.items()}


def test_load_csv_tells_numbers_from_categories_and_marks_what_is_missing(tmp_path):
    table = load_csv(write(tmp_path, PETS), "legs")
    assert [column.numeric for column in table.columns.values()] == [True, False, True]
    weight = table.columns["weight"]
    assert weight.missing.tolist() == [False, True, False]
    np.testing.assert_array_equal(weight.number, [4.1, math.nan, 0.03])
    assert table.features == ("weight", "kind") and table.lines.tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + PETS.encode(),
        PETS.replace("\n", "\r\n"),
        PETS.replace("\n", "\r"),
        "\n\n" + PETS.replace("\n", "\n\n  \n"),
        PETS.replace(",", " , "),
        PETS.rstrip("\n"),
        '"weight","kind","legs"\n"4.1","cat","4"\n"","dog","4"\n"0.03","bird","2"',
        PETS.replace("\n,", "\n NaN ,"),
    ],
    ids=["mark", "CRLF", "CR", "blank lines", "spaces", "no last end", "quotes", "NaN is missing"],
)
def test_load_csv_reads_the_same_table_from_every_dialect(tmp_path, content):
    expected = columns(load_csv(write(tmp_path, PETS), "legs"))
    assert columns(load_csv(write(tmp_path, content, "other.csv"), "legs")) == expected


def test_load_csv_keeps_unicode_and_quoted_line_breaks_and_counts_lines_of_the_file(tmp_path):
    content = '名前,größe\n"a,\r\nb",1\n猫,2\n'
    table = load_csv(write(tmp_path, content, "表.csv"), "größe")
    assert columns(table)["名前"] == ["a,\r\nb", "猫"]
    assert table.lines.tolist() == [3, 4]


def test_load_csv_leaves_columns_out_and_takes_codes_as_categories(tmp_path):
    content = "id,zip,price\n1,01234,9.5\n2,99999,8.5\n3,01234,7.5\n"
    table = load_csv(write(tmp_path, content), "price", drop=["id"], categorical=["zip"])
    assert table.features == ("zip",)
    assert not table.columns["zip"].numeric
    assert columns(table)["zip"] == ["01234", "99999", "01234"]


def test_load_csv_takes_other_delimiters_and_marks_of_absence(tmp_path):
    table = load_csv(write(tmp_path, "a;b\n-;1\n2;3\n"), "b", delimiter=";", missing=["-"])
    assert table.columns["a"].missing.tolist() == [True, False]


def test_load_csv_for_prediction_needs_no_target_and_no_variety(tmp_path):
    path = write(tmp_path, "a,b\n1,1\n")
    assert load_csv(path, learn=False).features == ("a", "b")
    with pytest.raises(InputError, match="'a' is constant"):
        load_csv(path)


LONG = "".join(f"{i},{i % 2}\n" for i in range(20))
MALFORMED = {
    "empty": ("", "is empty"),
    "only blank lines": ("\n \n\n", "is empty"),
    "only a header": ("a,y\n", "no rows below the header"),
    "short row": ("a,y\n1,2\n3\n", "line 3 has 1 cells, the header has 2"),
    "long row": ("a,y\n1,2\n3,4,5\n", "line 3 has 3 cells, the header has 2"),
    "cut in a row": ("a,b,y\n1,2,3\n4,5", "line 3 has 2 cells, the header has 3"),
    "ragged after a line break": ('a,y\n"1\n1",2\n3\n', "line 4 has 1 cells"),
    "open quote": ('a,y\n1,"2\n3,4\n', "line 3: unexpected end of data"),
    "stray quote": ('a,y\n"1"1,2\n', "line 2: ',' expected after"),
    "huge cell": ("a,y\n" + "1" * 200_000 + ",2\n", "line 2: field larger than field limit"),
    "name twice": ("a,a,y\n1,2,3\n", "names the column 'a' twice"),
    "no name": ("a,,y\n1,2,3\n", "no name for column 2"),
    "no header": ("1,2\n3,4\n", "first line must name the columns, got '1', '2'"),
    "other delimiter": ("a;y\n1;2\n", "only one column, 'a;y'; is the delimiter ';'?"),
    "no target": ("a,b\n1,2\n3,4\n", "no column 'y'; the columns are 'a', 'b'"),
    "missing target": ("a,y\n1,2\n2,\n", "line 3: the target 'y' is missing"),
    "one class": ("a,y\n1,no\n2,no\n", "target 'y' is constant, 'no' in all rows"),
    "constant column": (
        "a,b,y\n1,7,1\n2,7,2\n",
        "column 'b' is constant, '7' in all rows; drop it",
    ),
    "constant text": ("a,b,y\n1,u,1\n2,u,2\n", "column 'b' is constant, 'u' in all rows"),
    "empty column": ("a,b,y\n1,,1\n2,,2\n", "column 'b' is empty; drop it"),
    "column twice": ("a,b,y\n1,1.0,1\n2,2,0\n", "column 'b' equals column 'a'; drop one"),
    "text twice": ("a,b,y\nu,u,1\nv,v,0\n", "column 'b' equals column 'a'"),
    "answer as a column": ("a,b,y\n1,5,5\n2,6,6\n", "target 'y' equals column 'b'"),
    "infinite number": ("a,y\n1,2\n-inf,3\n", "line 3, column 'a': must be finite, got '-inf'"),
    "slip in a number": (
        f"a,y\n{LONG}12..5,1\n",
        "line 22, column 'a': must be a number, as 20 of 21 in the column are, got '12..5'",
    ),
    "infinite target": ("a,y\n1,2\n2,1e999\n", "line 3, column 'y': must be finite, got '1e999'"),
    "Latin-1": ("a,y\n1,2\nn\u00e9e,3\n".encode("latin-1"), "line 3 is not UTF-8 .byte 0xe9."),
    "UTF-16": ("a,y\n1,2\n".encode("utf-16"), "is UTF-16 or binary"),
    "zero byte": (b"a,y\n1,\x002\n", "is UTF-16 or binary"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), "is compressed .gzip or zip.; unpack it first"),
    "zip": (b"PK\x03\x04" + bytes(20), "is compressed"),
    "target only": ("y,a\n1,2\n", "no columns to predict from"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_table_is_named_in_one_line(tmp_path, case):
    content, message = MALFORMED[case]
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        load_csv(path, "y", drop=["a"] if case == "target only" else ())
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_load_csv_refuses_files_over_the_cap_and_settings_that_contradict(tmp_path):
    path = write(tmp_path, PETS)
    with pytest.raises(InputError, match="larger than the cap of 10 bytes"):
        load_csv(path, "legs", max_bytes=10)
    with pytest.raises(InputError, match="no column 'wings'"):
        load_csv(path, "legs", drop=["wings"])
    with pytest.raises(InputError, match="the target 'legs' cannot be dropped"):
        load_csv(path, "legs", drop=["legs"])
    with pytest.raises(InputError, match="delimiter must be one character, got ',,'"):
        load_csv(path, "legs", delimiter=",,")
    with pytest.raises(InputError, match="no such file"):
        load_csv(tmp_path / "none.csv", "legs")
