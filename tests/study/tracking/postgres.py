"""A temporary PostgreSQL server in a folder, for tests; it listens on loopback only."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.study.tracking.conftest import free_port


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


@contextmanager
def postgres_running() -> Iterator[Postgres]:
    """A server that runs until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="study-postgres-"))  # pytest's are closed to others
    shutil.chown(folder, "postgres")
    made = Postgres(folder, free_port())
    try:
        made.as_postgres("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "study")
        made.control("start")
        yield made
        made.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)
