import os
from pathlib import Path

import pytest

from terradelta.errors import InputError, OutputError, OutputExistsError
from terradelta.mapping import staging
from terradelta.mapping.staging import check_free, work_folder


def test_appears_at_the_end(tmp_path):
    out = tmp_path / "deep" / "out"
    with work_folder(out) as work:
        (work.product / "a").write_text("x")
        assert not out.exists()
        assert work.path.parent == out.parent
    assert (out / "a").read_text() == "x"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_vanishes_on_failure(tmp_path, error):
    with pytest.raises(error), work_folder(tmp_path / "out") as work:
        (work.product / "a").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "out").mkdir()
    with work_folder(tmp_path / "out") as work:
        (work.product / "a").write_text("x")
    assert (tmp_path / "out" / "a").exists()


def test_a_file_or_a_full_folder_may_not(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    for name in ("file", "full"):
        with pytest.raises(OutputExistsError, match=f"{name} is there already"), work_folder(tmp_path / name):
            pass


def test_taken_while_working(tmp_path):
    with pytest.raises(OutputError, match="cannot be moved"), work_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x").write_text("theirs")
    assert (tmp_path / "out" / "x").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"), work_folder(tmp_path / "file" / "out"):
        pass


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with work_folder(tmp_path / "out"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_a_link_to_an_empty_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with work_folder(tmp_path / "link") as work:
        (work.product / "a").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").exists()


def test_a_name_as_long_as_the_system_allows(tmp_path):
    with work_folder(tmp_path / ("y" * 255)) as work:
        (work.product / "a").write_text("x")
    assert (tmp_path / ("y" * 255) / "a").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("y" * 256, "File name too long"), ("\udcff", "no UTF-8 name"), ("a\0", "null byte")]
)
def test_impossible_names(tmp_path, name, words):
    with pytest.raises(InputError, match=words), work_folder(tmp_path / name):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_there_for_the_next_run(tmp_path):
    with pytest.raises(RuntimeError), work_folder(tmp_path / "out") as work:
        work.rows.mkdir()
        (work.rows / "a").write_text("x")
        (work.product / "b").write_text("half")
        work.keep = True
        raise RuntimeError
    assert not (tmp_path / "out").exists()
    with work_folder(tmp_path / "out") as work:
        assert (work.rows / "a").read_text() == "x"
        assert list(work.product.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_fresh_discards_it(tmp_path):
    with pytest.raises(RuntimeError), work_folder(tmp_path / "out") as work:
        work.rows.mkdir()
        work.keep = True
        raise RuntimeError
    with work_folder(tmp_path / "out", fresh=True) as work:
        assert not work.rows.exists()


def test_two_at_once_are_refused(tmp_path):
    with work_folder(tmp_path / "out") as work:
        (work.product / "a").write_text("x")
        with pytest.raises(OutputExistsError, match=r"another process is making .*out"), work_folder(tmp_path / "out"):
            pass
    assert (tmp_path / "out" / "a").read_text() == "x"


def test_what_a_kill_left_beside_a_finished_product_is_removed(tmp_path):
    with work_folder(tmp_path / "out") as work:
        (work.product / "a").write_text("x")
    work.path.mkdir()
    (work.path / "lock").touch()
    work.rows.mkdir()
    with pytest.raises(OutputExistsError, match="out is there already"):
        check_free(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_lock_that_was_removed_does_not_count(tmp_path, monkeypatch):
    """The other run ends between our opening its lock and our locking it."""
    real, work = staging.take_lock, tmp_path / f"{staging._work_name('out')}"

    def late(file):
        monkeypatch.setattr(staging, "take_lock", real)
        (work / "lock").unlink()
        work.rmdir()
        return real(file)

    monkeypatch.setattr(staging, "take_lock", late)
    with work_folder(tmp_path / "out") as made:
        assert (made.path / "lock").exists()
    assert (tmp_path / "out").is_dir()


def test_nothing_temporary_lies_in_a_product(tmp_path):
    """What a writer left, as when nothing could be deleted for want of space, goes before the folder gets its name."""
    with work_folder(tmp_path / "out") as work:
        (work.product / "change.tif").write_text("a")
        (work.product / ".change.tif.XXXX").mkdir()
        (work.product / ".change.tif.XXXX" / "0").write_text("b")
        (work.product / ".report.part").write_text("c")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["change.tif"]


def test_temporary_files_that_stay_end_the_run(tmp_path, monkeypatch):
    def refuse(path, ignore_errors=False):
        if not ignore_errors:
            raise OSError(28, "No space left on device")

    def run():
        with work_folder(tmp_path / "out") as work:
            (work.product / ".change.tif.XXXX").mkdir()
            monkeypatch.setattr("terradelta.mapping.staging.shutil.rmtree", refuse)

    with pytest.raises(OutputError, match=r"temporary files that cannot be removed \(No space left"):
        run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["file/out", "file/a/b", "n" * 300, "nul\0"])
def test_folders_that_can_never_be_are_the_users_fault(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        check_free(tmp_path / name)


def test_the_root_is_there_already():
    """It has no folder above it."""
    with pytest.raises(OutputExistsError, match="is there already"):
        check_free(Path(Path.cwd().anchor))
