import itertools
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from terradelta.errors import InputError, OutputError
from terradelta.geo.windows import Span
from terradelta.mapping.journal import BLOCK_ROWS, STEPS, Journal, pack, unpack

JOB = {"inputs": ["a", "b"], "tiles": [64, 16, 16]}


def write(journal: Journal, number: int, values: np.ndarray, cuts: tuple[int, ...] = ()) -> None:
    edges = [0, *cuts, values.shape[1]]
    with journal.write(number) as row:
        for first, stop in itertools.pairwise(edges):
            row.add(first, values[:, first:stop])


@given(hnp.arrays(np.float32, 50, elements=st.floats(0, 1, width=32)))
def test_packing_keeps_probabilities_to_half_a_step(values):
    assert np.abs(unpack(pack(values)) - values).max() <= 0.5 / STEPS + 1e-7
    assert np.array_equal(pack(unpack(pack(values))), pack(values))


def test_packing_keeps_the_ends_the_middle_and_what_is_missing():
    values = np.array([0, 0.5, 1, np.nan], np.float32)
    assert np.array_equal(unpack(pack(values)), values, equal_nan=True)


@pytest.mark.parametrize("height", [1, BLOCK_ROWS, 2 * BLOCK_ROWS + 3])
def test_a_row_is_read_in_any_pieces(tmp_path, height):
    journal = Journal(tmp_path / "rows", JOB)
    values = np.random.default_rng(0).random((height, 50), np.float32)
    values[0, :7] = np.nan
    write(journal, 3, values, (16, 41))
    reader = journal.read(3)
    assert reader.shape == values.shape
    for start in range(0, height, 5):
        rows = Span(start, min(start + 13, height))
        np.testing.assert_allclose(reader.read(rows), values[rows.start : rows.stop], atol=1e-5)
    reader.close()


def test_rows_count_once_they_are_whole(tmp_path):
    journal = Journal(tmp_path / "rows", JOB)
    with journal.write(0) as row:
        row.add(0, np.zeros((4, 4), np.float32))
        row.note([{"row": 1}])
        assert journal.finished(2) == set()
    with pytest.raises(KeyboardInterrupt), journal.write(1) as row:
        row.add(0, np.zeros((4, 4), np.float32))
        raise KeyboardInterrupt
    assert Journal(tmp_path / "rows", JOB).finished(2) == {0}
    assert journal.read(0).notes == [{"row": 1}]
    assert sorted(p.name for p in (tmp_path / "rows").iterdir()) == ["000000.row", "job.json"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    journal = Journal(tmp_path / "rows", JOB)
    row = journal.write(0)
    row.__enter__()
    row.add(0, np.zeros((4, 4), np.float32))
    assert len(list((tmp_path / "rows").glob("*.part"))) == 1
    journal.tidy()
    assert [p.name for p in (tmp_path / "rows").iterdir()] == ["job.json"]
    row._file.close()


def test_a_damaged_row_is_made_again(tmp_path):
    journal = Journal(tmp_path / "rows", JOB)
    for number in range(2):
        write(journal, number, np.zeros((4, 4), np.float32))
    path = tmp_path / "rows" / "000001.row"
    path.write_bytes(path.read_bytes()[:40])
    assert journal.finished(2) == {0}
    assert not path.exists()


def test_damage_inside_a_row_is_reported(tmp_path):
    journal = Journal(tmp_path / "rows", JOB)
    write(journal, 0, np.random.default_rng(0).random((64, 64), np.float32))
    path = tmp_path / "rows" / "000000.row"
    content = bytearray(path.read_bytes())
    content[500:600] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"000000\.row is damaged .*; start afresh with --fresh"):
        journal.read(0).read(Span(0, 64))


def test_another_job_is_refused_with_what_differs(tmp_path):
    Journal(tmp_path / "rows", JOB)
    Journal(tmp_path / "rows", json.loads(json.dumps(JOB)))
    with pytest.raises(
        InputError, match=r"unfinished run that differs from this one in: inputs, model\. Give the same"
    ):
        Journal(tmp_path / "rows", {**JOB, "inputs": ["a", "c"], "model": "x"})


def test_a_damaged_job_is_refused(tmp_path):
    Journal(tmp_path / "rows", JOB)
    (tmp_path / "rows" / "job.json").write_text("{")
    with pytest.raises(OutputError, match=r"job.json is damaged .*; remove the folder that it is in, or name another"):
        Journal(tmp_path / "rows", JOB)


def test_a_full_disk_is_reported(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal(tmp_path / "rows", JOB)
    with (
        pytest.raises(OutputError, match=r"000000\.row cannot be written or read \(No space left.*make room, then run"),
        journal.write(0) as row,
    ):
        monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
        row.add(0, np.zeros((4, 4), np.float32))
    assert journal.finished(1) == set()
