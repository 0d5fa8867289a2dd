"""A PostgreSQL of one's own in a folder, for tests: loopback only, gone with the folder."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.tracking.conftest import free_port


@dataclass
class Postgres:
    folder: Path
    port: int

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://study@127.0.0.1:{self.port}/postgres"

    def as_postgres(self, *words: str) -> None:
        line = ["runuser", "-u", "postgres", "--", *words]
        done = subprocess.run(line, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def control(self, *words: str) -> None:
        tool = Path(str(shutil.which("initdb"))).resolve().with_name("pg_ctl")
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        place = ["-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options]
        self.as_postgres(str(tool), *place, "-w", *words)


def postgres_in(folder: Path) -> Postgres:
    """Make and start it."""
    folder.mkdir()
    shutil.chown(folder, "postgres")
    for above in folder.parents:  # pytest's folders are closed to others
        if above.is_relative_to("/tmp/pytest-of-root"):
            above.chmod(above.stat().st_mode | 0o011)
    made = Postgres(folder, free_port())
    made.as_postgres("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "study")
    made.control("start")
    return made
