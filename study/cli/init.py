"""`study init`: a commented study file for a table at hand."""

import argparse
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from study.cli.arguments import Commands
from study.cli.messages import complain, near, program
from study.core.spec import nearest
from study.tasks import Task
from study.tasks.guess import guess
from study.tasks.metrics import METRICS
from study.tasks.reading import read_records

EPOCHS_OF_SEVERAL = 15  # a new head with several labels answers none of them for many steps
SMALL = 1000  # rows; of fewer the template's subset would leave little or nothing out
FIRST_LOOK = "  # TASK.subset(300, seed=0, dev_rows=150, test_rows=300) for a first look"
COLUMNS = {
    "text": "with the text",
    "text_pair": "with the second text of pairs",
    "label": "with the label",
    "group": "whose rows of one value stay in one part",
}


def add_commands(commands: Commands) -> None:
    """Add `study init`."""
    parser = commands.add("init", init)
    parser.add_argument("table", type=Path, help="CSV, JSONL or Parquet, a row per example")
    parser.add_argument(
        "--out", type=Path, help="the study file to write; default: NAME_study.py beside the table"
    )
    for field, what in COLUMNS.items():
        flag = f"--{field.replace('_', '-')}"
        parser.add_argument(flag, metavar="COLUMN", help=f"the column {what}")


def init(arguments: argparse.Namespace) -> int:
    """Write a commented study file for a table, with kind, columns and metric guessed and said."""
    table: Path = arguments.table
    if not table.is_file():
        files = [str(file) for file in table.parent.glob("*") if file.is_file()]
        hint = f". {hint}" if (hint := nearest(str(table), files)) else ""
        raise LookupError(f"no file {str(table)!r}{hint}")
    name = re.sub(r"\W+", "_", table.name.partition(".")[0]).strip("_") or "mine"
    out: Path = arguments.out or table.parent / f"{name}_study.py"
    if out.exists():
        complain(f"{near(out)} exists; name another file with --out")
        return 2
    beside = out.resolve().parent == table.resolve().parent
    train = table.name if beside else str(table.resolve())
    given = {field: column for field in COLUMNS if (column := getattr(arguments, field))}
    records = read_records(table)
    guessed = guess(records, given=given)
    fields: dict[str, Any] = {"name": name, "train": train, **guessed.fields}
    file = "own_prompts.py" if fields["kind"] == "generation" else "own_data.py"
    template = resources.files("study.designs").joinpath(file).read_text("utf-8")
    head, study = template.split("\n\nSTUDY = ")
    for field, value in fields.items():
        head = _with_field(head, field, value)
    kinds = [m.name for m in METRICS.values() if fields["kind"] in m.kinds]
    others = [name for name in kinds if name != "choice_accuracy"]  # needs a column of choices
    others.remove(fields["metric"])
    if guessed.classes != 2:  # those of one class against the other
        others = [name for name in others if name not in ("f1", "micro_f1_excl_negative")]
    head = re.sub(r"(    metric=.*?,)  # .*", rf"\1  # or {', '.join(others)}", head)
    if group := given.get("group"):
        stratify = ", stratify=True" if guessed.classes else ""
        by_group = f"ByGroup(column={json.dumps(group)}, folds=5{stratify})"
        head = head.replace("KFold(folds=5)", by_group)
        head = head.replace(" FreezeLower, KFold,", " ByGroup, FreezeLower,")
        head = head.replace("  # or ByGroup, ByTime;", "  # or KFold, ByTime;")
    first, rest = head.rstrip().split("\n", 1)
    first = f'"""A study of {table.name}:{first.partition("copy this file and")[2]}'
    study = _with_field(study, "name", name)
    if len(records) < SMALL:
        study = study.replace(FIRST_LOOK, "")
    if fields["kind"] == "multilabel":
        study = study.replace("epochs=5", f"epochs={EPOCHS_OF_SEVERAL}")
    out.write_text(f"{first}\n{rest}\n\nSTUDY = {study}", "utf-8")
    print("\n".join(f"guessed  {reason}" for reason in guessed.reasons))
    print(f"written  {near(out)}")
    print(f"next     {program()} run {near(out)} --dry-run")
    return 0


def _with_field(text: str, field: str, value: Any) -> str:
    """A call with another argument, in its line or, unless it is the default, in a new one."""
    literal = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    line = re.compile(rf"^    {field}=.*?,(?=  #|$)", re.MULTILINE)
    if line.search(text):
        return line.sub(lambda _: f"    {field}={literal},", text, count=1)
    if Task.model_fields[field].default == value:
        return text
    return text.rstrip().removesuffix(")") + f"    {field}={literal},\n)\n"
