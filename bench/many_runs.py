"""A tracking store with as many runs as one likes: real rows of a real study, copied by SQL."""

import shutil
import sqlite3
from itertools import product
from pathlib import Path

TASKS, MODELS, TECHNIQUES = 4, 5, 25
TABLES = ("tags", "metrics", "latest_metrics", "params")


def multiply(store: str, place: str, runs: int) -> None:
    """Copy a store so that its study has many more runs.

    Args:
        store: The `mlflow.db` of a finished study.
        place: Where to write the large one.
        runs: How many; spread over 4 tasks × 5 models × 25 techniques.
    """
    shutil.copy(store, place)
    database = sqlite3.connect(place)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    first = {kind: _one_of(database, kind) for kind in ("cell", "run")}
    seeds = runs // (TASKS * MODELS * TECHNIQUES)
    cells = list(product(range(TASKS), range(MODELS), range(TECHNIQUES)))
    for number, (task, model, technique) in enumerate(cells):
        cell = f"{number:012x}"
        names = {"task": f"task{task}", "model": f"model{model}"}
        names |= {"technique": "T", "configuration": f"T({technique})"}
        _copied(database, first["cell"], f"{number:032x}", names | {"cell": cell, "seeds": f"0-{seeds - 1}"})
        for seed in range(seeds):
            mark = number * seeds + seed
            streams = dict.fromkeys(("head", "order", "noise"), str(seed))
            own = {"cell": cell, "key": f"{mark:012x}", "mlflow.parentRunId": f"{number:032x}"}
            _copied(database, first["run"], f"f{mark:031x}", streams | own)
    for run in [row for (row,) in database.execute("SELECT run_uuid FROM runs")]:
        if len(run.lstrip("0f")) > 8:  # an original
            for table in (*TABLES, "runs"):
                database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run,))
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


class _Rows(dict[str, tuple[str, list[tuple[object, ...]]]]):
    """The rows of one run, by table: the statement that inserts them, and the values."""


def _one_of(database: sqlite3.Connection, kind: str) -> _Rows:
    query = "SELECT run_uuid FROM tags WHERE key = 'kind' AND value = ? LIMIT 1"
    (run,) = database.execute(query, (kind,)).fetchone()
    found = _Rows()
    for table in (*TABLES, "runs"):
        rows = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run,))
        columns = [column[0] for column in rows.description]
        marks = ", ".join("?" for _ in columns)
        place = columns.index("run_uuid")
        key = columns.index("key") if "key" in columns else -1
        value = columns.index("value") if "value" in columns else -1
        found[table] = (f"INSERT INTO {table} VALUES ({marks})", rows.fetchall())
        found[f"{table} columns"] = ("", [(place, key, value)])
    return found


def _copied(
    database: sqlite3.Connection, original: _Rows, run: str, tags: dict[str, str]
) -> None:
    for table in (*TABLES, "runs"):
        statement, rows = original[table]
        ((place, key, value),) = original[f"{table} columns"][1]
        copies = []
        for row in rows:
            copy = list(row)
            copy[place] = run
            if table == "tags" and copy[key] in tags:
                copy[value] = tags[str(copy[key])]
            copies.append(tuple(copy))
        database.executemany(statement, copies)
