import os

import pytest

from terradelta.errors import OutputError, OutputExistsError
from terradelta.mapping.staging import staged_folder


def test_appears_at_the_end(tmp_path):
    out = tmp_path / "deep" / "out"
    with staged_folder(out) as work:
        (work / "a").write_text("x")
        assert not out.exists()
        assert work.parent == out.parent
    assert (out / "a").read_text() == "x"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_vanishes_on_failure(tmp_path, error):
    with pytest.raises(error), staged_folder(tmp_path / "out") as work:
        (work / "a").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "out").mkdir()
    with staged_folder(tmp_path / "out") as work:
        (work / "a").write_text("x")
    assert (tmp_path / "out" / "a").exists()


def test_a_file_or_a_full_folder_may_not(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    for name in ("file", "full"):
        with pytest.raises(OutputExistsError, match=f"{name} is there already"), staged_folder(tmp_path / name):
            pass


def test_taken_while_working(tmp_path):
    with pytest.raises(OutputError, match="cannot be moved"), staged_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x").write_text("theirs")
    assert (tmp_path / "out" / "x").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be made"), staged_folder(tmp_path / "file" / "out"):
        pass


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with staged_folder(tmp_path / "out"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_a_link_to_an_empty_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with staged_folder(tmp_path / "link") as work:
        (work / "a").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").exists()


def test_a_name_as_long_as_the_system_allows(tmp_path):
    with staged_folder(tmp_path / ("y" * 255)) as work:
        (work / "a").write_text("x")
    assert (tmp_path / ("y" * 255) / "a").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("y" * 256, "File name too long"), ("\udcff", "no UTF-8 name"), ("a\0", "null byte")]
)
def test_impossible_names(tmp_path, name, words):
    with pytest.raises(OutputError, match=words), staged_folder(tmp_path / name):
        pass
    assert list(tmp_path.iterdir()) == []
