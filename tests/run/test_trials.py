import json
import math
import os

import pytest

from fdl.errors import InputError
from fdl.run.trials import Trial, Trials, choosing, halving, markdown, ranked


def trial(index, loss=0.0, rung=0, failed=""):
    figures = {} if failed else {"valid_loss": loss}
    return Trial(index, {"lr": 0.1, "unit": "relu"}, figures, rung, failed)


def test_trials_come_back_as_they_were_kept(tmp_path):
    kept = [trial(0, 1 / 3), trial(2, math.inf), trial(1, failed="größer"), trial(0, 0.25, rung=1)]
    trials = Trials(tmp_path / "trials.jsonl")
    for one in kept:
        trials.add(one)
    assert list(Trials(tmp_path / "trials.jsonl").found.values()) == kept
    assert os.listdir(tmp_path) == ["trials.jsonl"]
    trials.add(trial(2, math.nan))
    again = Trials(tmp_path / "trials.jsonl").found
    assert len(again) == 4 and math.isnan(again[2, 0].figures["valid_loss"])


def test_a_line_is_json_that_others_can_read(tmp_path):
    Trials(tmp_path / "t").add(trial(3, math.nan))
    (line,) = (tmp_path / "t").read_text().splitlines()
    read = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert read["number"] == 3 and read["figures"] == {"valid_loss": "nan"}


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_damaged_last_line_is_dropped_and_written_over(tmp_path, cut):
    path = tmp_path / "t"
    trials = Trials(path)
    for index in range(3):
        trials.add(trial(index, float(index)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut] + (b"" if cut == 1 else b"\n"))
    found = Trials(path)
    assert list(found.found) == [(0, 0), (1, 0)] + ([(2, 0)] if cut == 1 else [])
    found.add(trial(2, 2.0))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"{}", b"[1]", b"\xff", b'{"number": 1}', b"half"])
def test_another_damaged_line_is_refused_with_its_number(tmp_path, damage):
    path = tmp_path / "t"
    for index in range(3):
        Trials(path).add(trial(index))
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damage, lines[2]]))
    with pytest.raises(InputError, match="t line 2 is not a trial"):
        Trials(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Trials(tmp_path)


def test_the_best_comes_first_and_what_has_no_score_last():
    trials = [trial(0, 0.3), trial(1, math.nan), trial(2, failed="x"), trial(3, 0.1), trial(4, 0.3)]
    assert [t.number for t in ranked(trials, "valid_loss")] == [3, 0, 4, 1, 2]
    assert [t.number for t in ranked(trials, "valid_loss", highest=True)] == [0, 4, 3, 1, 2]
    longer = [*trials, trial(0, 0.5, rung=1)]
    assert [(t.number, t.rung) for t in ranked(longer, "valid_loss")][:2] == [(0, 1), (3, 0)]


def test_test_data_never_choose():
    assert choosing({"test_loss": 1.0, "valid_loss": 2, "tests": 3}) == {
        "valid_loss": 2.0,
        "tests": 3.0,
    }
    with pytest.raises(InputError, match="must not be of test data"):
        ranked([Trial(0, {}, {"test_loss": 1.0})], "test_loss")
    with pytest.raises(InputError, match="--by must be one of valid_loss, got 'loss'"):
        ranked([trial(0)], "loss")


def test_halving_gives_each_rung_a_third_of_the_trials_and_three_times_the_steps():
    assert halving(20, 100, 1) == [(20, 100)]
    assert halving(20, 100, 3) == [(20, 11), (6, 33), (2, 100)]
    assert halving(16, 64, 5, factor=2) == [(16, 4), (8, 8), (4, 16), (2, 32), (1, 64)]
    for trials, steps, name in ((8, 900, "trials"), (27, 8, "steps")):
        with pytest.raises(InputError, match=f"--rungs 3 needs at least 9 {name}, got 8"):
            halving(trials, steps, 3)


def test_the_table_names_rungs_and_failures_only_where_there_are_some():
    rows = markdown([trial(1, 0.123456), trial(0, 12345.0)], ["unit"]).splitlines()
    assert rows[0] == "| trial | unit | valid_loss |"
    assert [row.split("|")[3].strip() for row in rows[2:]] == ["0.123", "1.23e+04"]
    rows = markdown([trial(1, 0.5, rung=2), trial(0, failed="a|b\nc")], ["lr"]).splitlines()
    assert rows[0].split() == "| trial | rung | lr | valid_loss | failed |".split()
    assert rows[3].endswith(r"| a\|b c |")
    assert len({len(row) for row in rows}) == 1
