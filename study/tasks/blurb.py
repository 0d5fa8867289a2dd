"""Conversion of BLURB's data folders to the rows of the catalogue's tasks.

Source: Gu et al. 2021 and the authors' published data preparation; the input is the `data` folder
that it writes.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from study.core.spec import Mistake, SpecError
from study.tasks.catalogue import HOC
from study.tasks.task import SPLITS

Row = dict[str, Any]


def import_blurb(folder: Path, out: Path) -> dict[str, dict[str, int]]:
    """Write the rows of every BLURB data set in a folder.

    Args:
        folder: BLURB's `data` folder.
        out: Output folder, to be named in `STUDY_DATA`; gets one folder per task.

    Returns:
        Number of rows per task and split.

    Raises:
        SpecError: If the folder has no BLURB data set, or a file is malformed.
    """
    written: dict[str, dict[str, int]] = {}
    for task, (name, read) in LAYOUT.items():
        if not (source := folder / name).is_dir():
            continue
        for split in SPLITS:
            rows = list(read(source, split))
            target = out / task / f"{split}.jsonl.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            target.write_bytes(gzip.compress(text.encode(), mtime=0))
            written.setdefault(task, {})[split] = len(rows)
    if not written:
        known = ", ".join(sorted({name for name, _ in LAYOUT.values()}))
        text = f"has none of the folders {known}; name the `data` folder that BLURB writes."
        raise SpecError("BLURB", [Mistake(str(folder), text)])
    return written


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise SpecError("BLURB", [Mistake(str(path), "no such file.")])
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield number, line.rstrip("\n")


def _table(path: Path, columns: int, *, header: bool) -> Iterator[list[str]]:
    for number, line in _lines(path):
        if header and number == 1 or not line.strip():
            continue
        cells = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
        if len(cells) != columns:
            text = f"has {len(cells)} columns instead of {columns}."
            raise SpecError("BLURB", [Mistake(f"{path}, line {number}", text)])
        yield [cell.strip() for cell in cells]


def _tags(folder: Path, split: str) -> Iterator[Row]:
    """A word, a tab and a tag per line; a blank line ends a sentence."""
    path = folder / f"{split}.tsv"
    tokens: list[str] = []
    tags: list[str] = []
    count = 0
    for number, line in [*_lines(path), (0, "")]:
        if line.startswith("-DOCSTART-"):
            continue
        if line.strip():
            token, tab, tag = line.partition("\t")
            if not tab:
                text = "has no tab; expected a word, a tab and a tag."
                raise SpecError("BLURB", [Mistake(f"{path}, line {number}", text)])
            tokens.append(token.strip())
            tags.append(tag.strip())
        elif tokens:
            yield {"id": f"{folder.name}-{split}-{count}", "tokens": tokens, "tags": tags}
            tokens, tags, count = [], [], count + 1


def _entities(entity: str) -> Callable[[Path, str], Iterator[Row]]:
    """Read as `_tags`, with `B`, `I` or any class renamed to a single class."""

    def read(folder: Path, split: str) -> Iterator[Row]:
        for row in _tags(folder, split):
            tags = [tag if tag == "O" else f"{tag[0]}-{entity}" for tag in row["tags"]]
            yield {**row, "tags": tags}

    return read


def _relations(header: bool) -> Callable[[Path, str], Iterator[Row]]:
    def read(folder: Path, split: str) -> Iterator[Row]:
        for number, (name, text, label) in enumerate(
            _table(folder / f"{split}.tsv", 3, header=header)
        ):
            # GAD's ids are row numbers from 0 in every split, so not unique over splits.
            ids = f"{folder.name}-{split}-{number}" if header else name
            yield {"id": ids, "text": text, "label": label}

    return read


def _similarity(folder: Path, split: str) -> Iterator[Row]:
    for name, text, pair, label in _table(folder / f"{split}.tsv", 4, header=True):
        yield {"id": f"biosses-{name}", "text": text, "text_pair": pair, "label": float(label)}


def _hallmarks(folder: Path, split: str) -> Iterator[Row]:
    """Join the sentences of each abstract; its labels are the union over sentences."""
    abstracts: dict[str, tuple[list[str], set[str]]] = {}
    names = HOC.labels or ()
    for flags, sentence, name in _table(folder / f"{split}.tsv", 3, header=True):
        sentences, labels = abstracts.setdefault(name.partition("_")[0], ([], set()))
        sentences.append(sentence)
        marks = (flag.partition("_") for flag in flags.split(","))
        labels |= {names[int(number)] for number, _, on in marks if on == "1"}
    for name, (sentences, labels) in abstracts.items():
        yield {"id": f"hoc-{name}", "text": " ".join(sentences), "labels": sorted(labels)}


def _pubmedqa(folder: Path, split: str) -> Iterator[Row]:
    path = folder / ("test_set.json" if split == "test" else f"pqal_fold0/{split}_set.json")
    if not path.is_file():
        raise SpecError("BLURB", [Mistake(str(path), "no such file.")])
    for name, entry in json.loads(path.read_text(encoding="utf-8")).items():
        yield {
            "id": f"pubmedqa-{name}",
            "text": entry["QUESTION"].strip(),
            "text_pair": " ".join(part.strip() for part in entry["CONTEXTS"] if part.strip()),
            "label": entry["final_decision"],
        }


def _bioasq(folder: Path, split: str) -> Iterator[Row]:
    for name, question, snippets, label in _table(folder / f"{split}.tsv", 4, header=False):
        yield {"id": name, "text": question, "text_pair": snippets, "label": label}


LAYOUT: dict[str, tuple[str, Callable[[Path, str], Iterator[Row]]]] = {
    "bc5_chem": ("BC5CDR-chem", _entities("Chemical")),
    "bc5_disease": ("BC5CDR-disease", _entities("Disease")),
    "ncbi_disease": ("NCBI-disease", _entities("Disease")),
    "bc2gm": ("BC2GM", _entities("Gene")),
    "jnlpba": ("JNLPBA", _entities("Entity")),
    "ebm_pico": ("ebmnlp", _tags),
    "chemprot": ("chemprot", _relations(header=False)),
    "ddi": ("DDI", _relations(header=False)),
    "gad": ("GAD", _relations(header=True)),
    "biosses": ("BIOSSES", _similarity),
    "hoc": ("HoC", _hallmarks),
    "pubmedqa": ("pubmedqa", _pubmedqa),
    "bioasq": ("BioASQ", _bioasq),
}
