"""Makes a large tracking store: copies the rows of a real study by SQL."""

import shutil
import sqlite3
from itertools import product
from typing import Any, NamedTuple

TASKS, MODELS, TECHNIQUES = 4, 5, 25
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")


def multiply(store: str, target: str, runs: int) -> None:
    """Copy a store so that its study has many more runs.

    Args:
        store: The `mlflow.db` of a finished study.
        target: Path of the new, large store.
        runs: Number of runs, over 4 tasks × 5 models × 25 techniques; a multiple of 500.
    """
    shutil.copy(store, target)
    database = sqlite3.connect(target)
    database.execute("PRAGMA synchronous = OFF")
    first_cell, first_run = (_rows_of(database, kind) for kind in ("cell", "run"))
    originals = [run for (run,) in database.execute("SELECT run_uuid FROM runs")]
    seeds = runs // (TASKS * MODELS * TECHNIQUES)
    cells = product(range(TASKS), range(MODELS), range(TECHNIQUES))
    for number, (task, model, technique) in enumerate(cells):
        parent, key = f"{number:032x}", f"{number:012x}"
        names = {"task": f"task{task}", "model": f"model{model}", "technique": "T"}
        names |= {"configuration": f"T({technique})", "cell": key, "seeds": f"0-{seeds - 1}"}
        _insert(database, first_cell, parent, names)
        for seed in range(seeds):
            run = number * seeds + seed
            own = {"cell": key, "key": f"{run:012x}", "mlflow.parentRunId": parent}
            own |= dict.fromkeys(("head", "order", "noise"), str(seed))
            _insert(database, first_run, f"f{run:031x}", own)
    for table, run in product(reversed(TABLES), originals):
        database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run,))
    database.commit()
    database.close()


class _Rows(NamedTuple):
    table: str
    columns: list[str]
    rows: list[tuple[Any, ...]]


def _rows_of(database: sqlite3.Connection, kind: str) -> list[_Rows]:
    """All rows of one MLflow run of this kind, `cell` or `run`."""
    query = "SELECT run_uuid FROM tags WHERE key = 'kind' AND value = ? LIMIT 1"
    (run,) = database.execute(query, (kind,)).fetchone()
    found = []
    for table in TABLES:
        rows = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run,))
        found.append(_Rows(table, [column[0] for column in rows.description], rows.fetchall()))
    return found


def _insert(
    database: sqlite3.Connection, original: list[_Rows], run: str, tags: dict[str, str]
) -> None:
    """Copy a run under another id, with some of its tags replaced."""
    for table, columns, rows in original:
        copies = [dict(zip(columns, row, strict=True)) | {"run_uuid": run} for row in rows]
        if table == "tags":
            copies = [row | {"value": tags.get(row["key"], row["value"])} for row in copies]
        marks = ", ".join(f":{column}" for column in columns)
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)
