"""An atomic write leaves all or nothing, and is on disk where that was asked for."""

import os
import stat
from pathlib import Path

import pytest

from study.core.atomic import atomic


def test_a_file_replaces_the_one_before_only_at_the_end(tmp_path):
    target = tmp_path / "new folder" / "file"
    for content in ("first", "second"):
        before = target.read_text() if target.exists() else None
        with atomic(target) as partial:
            partial.write_text(content)
            assert before == (target.read_text() if target.exists() else None)
        assert target.read_text() == content
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("folder", [True, False])
def test_an_error_leaves_what_was_there_and_nothing_partial(error, folder, tmp_path):
    target = tmp_path / "target"
    target.write_text("before")

    def write() -> None:
        with atomic(target) as partial:
            if folder:
                partial.mkdir()
            (partial / "file" if folder else partial).write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_not_empty_is_not_replaced(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").write_text("before")
    with pytest.raises(OSError, match="not empty"), atomic(tmp_path / "target") as partial:
        partial.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "file"]


@pytest.mark.parametrize("sync", [True, False])
def test_files_are_synced_before_the_rename_and_the_folder_after_it(sync, tmp_path, monkeypatch):
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def logged_fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        steps.append(path.name if path.suffix != ".partial" else "partial")
        assert stat.S_ISDIR(os.fstat(handle).st_mode) == (path.name != "file")
        fsync(handle)

    def logged_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "rename", logged_rename)
    with atomic(tmp_path / "target", sync=sync) as partial:
        (partial / "inner").mkdir(parents=True)
        (partial / "inner" / "file").write_text("content")
    synced = ["partial", "inner", "file", "rename", tmp_path.name]
    assert steps == (synced if sync else ["rename"])
