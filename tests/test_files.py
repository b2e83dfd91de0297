"""Files that appear whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from terradelta.errors import ModelError, OutputError
from terradelta.files import hidden_file, settle, take_lock, unfinished, whole_file, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["Fläche\n1\r\n", b"\x00\xff", ""])
def test_content_is_kept_byte_for_byte_and_replaces_what_was_there(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    write_whole(path, content, durable=True)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["x.txt"]


def test_nothing_has_the_name_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with whole_file(path) as hidden:
        hidden.write_text("half")
        assert not path.exists()
        assert hidden.parent == tmp_path
        assert not list(tmp_path.glob("*.png"))
    assert path.read_text() == "half"


def test_the_hidden_name_ends_as_the_file_where_asked_and_is_not_too_long(tmp_path: Path) -> None:
    with hidden_file(tmp_path / ("n" * 250 + ".onnx"), keep_suffix=True) as hidden:
        assert hidden.suffix == ".onnx"
        assert len(hidden.name) < 100
        hidden.touch()
        assert unfinished(tmp_path) == [hidden]


@pytest.mark.parametrize("error", [ModelError("no"), KeyboardInterrupt(), ValueError("x")])
def test_other_errors_pass_and_leave_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(type(error)) as caught, whole_file(path) as hidden:
        hidden.write_text("half")
        raise error
    assert caught.value is error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_full_disk_is_told_with_the_files_name_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, whole_file(tmp_path / "x", advice="make room") as hidden:
        hidden.write_text("half")
        raise OSError(28, "No space left on device", str(hidden))
    assert str(caught.value) == f"{tmp_path / 'x'} cannot be written (No space left on device); make room"
    assert names(tmp_path) == []


def test_failures_of_a_library_are_told_alike(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"x cannot be written \(driver\); give a place that can be, or make room"),
        whole_file(tmp_path / "x", failures=(RuntimeError,)),
    ):
        raise RuntimeError("driver")
    with (
        pytest.raises(OutputError, match=r"x cannot be written \(No such file or directory\)"),
        whole_file(tmp_path / "x"),
    ):
        pass  # a library that wrote nothing and said nothing


def test_a_missing_folder_is_an_error_unless_it_is_to_be_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x"
    with pytest.raises(OutputError, match=r"x cannot be written \(No such file or directory\); give a place"):
        write_whole(path, "x")
    write_whole(path, "x", make_folder=True)
    assert path.read_text() == "x"
    with pytest.raises(OutputError, match=r"y cannot be written \((Not a directory|File exists)\)"):
        write_whole(path / "y", "x", make_folder=True)


def test_errors_of_the_block_of_a_hidden_file_are_not_taken_for_those_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="image"), hidden_file(tmp_path / "x") as hidden:
        hidden.touch()
        raise FileNotFoundError("image")
    assert names(tmp_path) == []


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with whole_file(path) as first, whole_file(path) as second:
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"
    assert names(tmp_path) == ["x"]


def test_durable_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch) -> None:
    synced: list[tuple[int, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "x").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "x", "four", durable=True)
    assert synced == [(4, False)]
    write_whole(tmp_path / "x", "four")
    assert len(synced) == 1


def test_what_a_killed_process_left_is_found_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom terradelta.files import whole_file\n"
        "with whole_file(Path(sys.argv[1]), keep_suffix=sys.argv[2] == 'y') as hidden:\n"
        "    hidden.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "sub").mkdir()
    for path, keep in ((tmp_path / "x.gpkg", "y"), (tmp_path / "sub" / "x.gpkg", "n")):
        assert subprocess.run([sys.executable, "-c", code, path, keep], check=False).returncode == -signal.SIGKILL
    for name in (".hidden", ".a.part", "x.part", f".{'f' * 32}.part.d", f"a.{'f' * 32}.part"):
        (tmp_path / name).touch()
    (tmp_path / f".folder.{'f' * 32}.part").mkdir()
    (top,) = unfinished(tmp_path)
    assert top.name.startswith(".x.gpkg.")
    assert top.suffix == ".gpkg"
    below = unfinished(tmp_path, below=True)
    assert {path.parent for path in below} == {tmp_path, tmp_path / "sub"}
    assert not (tmp_path / "x.gpkg").exists()
    assert unfinished(tmp_path / "none") == []


def test_what_a_folder_depends_on_is_written_once_and_compared_then(tmp_path: Path) -> None:
    path, content = tmp_path / "new" / "job.json", {"seed": 1, "sides": (2, 3), "name": "a"}
    settle(path, content, ValueError)
    settle(path, {**content, "sides": [2, 3]}, ValueError)  # equal as JSON
    with pytest.raises(ValueError, match=r"\['more', 'seed'\]"):
        settle(path, {**content, "seed": 2, "more": 0}, ValueError)
    for damaged in ("{", "[1]", "3", "\udcff"):
        path.write_bytes(damaged.encode(errors="surrogateescape"))
        with pytest.raises(OutputError, match=r"job.json is damaged \(.*\); remove the folder that it is in, or name"):
            settle(path, content, ValueError)


def test_a_lock_is_held_until_the_file_is_closed(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        assert take_lock(first)
        assert not take_lock(second)
        first.close()
        assert take_lock(second)
