"""Bad rows stop the run, or are left out in limited number and always reported."""

import pytest

from lightning_posttrain.records.policy import RowReport, collect
from lightning_posttrain.types import UserError


def number(row, origin):
    if not isinstance(row["n"], int):
        raise UserError(f"{origin}: 'n' is {row['n']!r}, not a number. Repair it.")
    return row["n"]


ROWS = [({"n": n}, f"f.jsonl:{i}") for i, n in enumerate([1, "x", 2, "yy", None, 3], start=1)]


def test_the_default_stops_at_the_first_bad_row():
    rows, report = collect(ROWS, number)
    assert next(rows) == 1
    with pytest.raises(UserError, match=r"f.jsonl:2: 'n' is 'x'"):
        next(rows)
    assert report.n_ok == 1


def test_skipped_rows_are_counted_by_reason():
    rows, report = collect(ROWS, number, on_bad_row="skip")
    assert list(rows) == [1, 2, 3]
    assert (report.n_ok, report.n_skipped, report.n_dropped) == (3, 3, 0)
    assert report.reasons == {"'...' is '...', not a number": 2, "'...' is None, not a number": 1}
    assert report.messages[0] == "f.jsonl:2: 'n' is 'x', not a number. Repair it."
    assert str(report).startswith("3 rows used, 3 bad rows skipped, 0 dropped (2 x '...' is '...', not a number")


def test_more_than_max_skip_stops():
    rows, _ = collect(ROWS, number, on_bad_row="skip", max_skip=2)
    with pytest.raises(UserError, match=r"more than max_skip=2 bad rows.*2 rows used, 3 bad rows skipped"):
        list(rows)


def test_unreadable_lines_fall_under_the_policy_too(tmp_path):
    file = tmp_path / "f.jsonl"
    file.write_text('{"n": 1}\n{"n": \n{"n": "x"}\n{"n": 2}\n', encoding="utf-8")
    rows, report = collect(file, number, on_bad_row="skip")
    assert list(rows) == [1, 2]
    assert report.n_skipped == 2
    with pytest.raises(UserError, match=r"f\.jsonl:2:7: no valid JSON"):
        list(collect(str(file), number)[0])


def test_no_usable_row_is_an_error():
    rows, _ = collect(ROWS[1:2], number, on_bad_row="skip")
    with pytest.raises(UserError, match=r"no row is usable.*1 bad rows skipped"):
        list(rows)


def test_rows_an_option_drops_never_stop_a_run():
    class TooLong(UserError):
        drop = True

    def convert(row, origin):
        raise TooLong(f"{origin}: the row has {row['n']} tokens.") if row["n"] else UserError("bad")

    rows = [({"n": n}, f"f:{n}") for n in range(1, 9)]
    report = RowReport(max_skip=0)
    for row, origin in rows:
        with pytest.raises(TooLong):
            convert(row, origin)
        report.reject(TooLong(f"{origin}: the row has {row['n']} tokens."))
    assert (report.n_skipped, report.n_dropped, len(report.messages)) == (0, 8, 5)
    assert report.reasons == {"the row has N tokens.": 8}


def test_counts_travel_but_the_policy_stays():
    rows, report = collect(ROWS, number, on_bad_row="skip")
    list(rows)
    again = RowReport("skip", max_skip=3)
    again.load_state_dict(report.state_dict())
    assert (again.n_ok, again.n_skipped, again.max_skip) == (3, 3, 3)
    for strict in (RowReport("error"), RowReport("skip", max_skip=2)):
        with pytest.raises(UserError, match="bad rows skipped"):
            strict.load_state_dict(report.state_dict())
