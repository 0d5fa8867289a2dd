"""Build the bundled tasks `squad_sentences` and `wikipedia_text` from the rows of SQuAD 2.0.

    python scripts/make_answers.py FOLDER

FOLDER has train, dev and test as `.jsonl.gz`, divided by article, as for the task `squad2`. The
same rows give the same files. study/bundled/answers/README.md describes their content; `facts` is
written by hand.
"""

import argparse
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "study" / "bundled" / "answers"
SIZES = {"train": 400, "dev": 64, "test": 120}
SENTENCE, QUESTION, ANSWER, WORDING = (6, 20), 11, 4, 6  # words; the first is a range
PASSAGES, PROMPT, WORDS = 32, 8, 40  # of `wikipedia_text`
END = re.compile(r'(?<=[.!?])\s+(?=[A-Z"])')


def rank(text: str) -> str:
    """A fixed pseudo-random rank of a text; the only source of randomness here."""
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a split."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def sentence_at(text: str, place: int) -> str:
    """The sentence of a text that has this place in it."""
    starts = [0, *(gap.end() for gap in END.finditer(text))]
    ends = [*(gap.start() for gap in END.finditer(text)), len(text)]
    return next(text[a:b] for a, b in reversed(list(zip(starts, ends, strict=True))) if a <= place)


def questions(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Short questions that one short sentence answers, at most one per sentence."""
    seen = set()
    for row in rows:
        if not row["answers"]:
            continue
        first, question = row["answers"][0], row["question"].strip()
        sentence = sentence_at(row["context"], first["start"])
        wordings = list(dict.fromkeys(answer["text"] for answer in row["answers"]))
        wordings = [w for w in wordings if w in sentence and len(w.split()) <= WORDING]
        plain = sentence.isascii() and question.isascii()
        few = SENTENCE[0] <= len(sentence.split()) <= SENTENCE[1]
        few &= len(question.split()) <= QUESTION and len(first["text"].split()) <= ANSWER
        if plain and few and first["text"] in wordings and sentence not in seen:
            seen.add(sentence)
            text = f"{sentence}\nQuestion: {question}\nAnswer:"
            label = wordings if len(wordings) > 1 else wordings[0]
            yield {"id": row["id"], "text": text, "label": label}


def passages(rows: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """The first words of a paragraph, and those that follow."""
    for context in dict.fromkeys(row["context"] for row in rows):
        words = context.split()[:WORDS]
        if context.isascii() and len(words) == WORDS:
            text, label = " ".join(words[:PROMPT]), " ".join(words[PROMPT:])
            yield {"id": f"passage-{rank(context)[:10]}", "text": text, "label": label}


def write(name: str, rows: list[dict[str, Any]], size: int) -> None:
    """Write the rows of the lowest ranks; without a time stamp, equal rows are equal files."""
    chosen = sorted(rows, key=lambda row: rank(row["id"]))[:size]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
    (OUT / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with the rows of SQuAD 2.0")
    folder = parser.parse_args().folder
    OUT.mkdir(parents=True, exist_ok=True)
    splits = {name: read(folder / f"{name}.jsonl.gz") for name in SIZES}
    for name, rows in splits.items():
        write(name, list(questions(rows)), SIZES[name])
    write("wikipedia", list(passages(splits["test"])), PASSAGES)


if __name__ == "__main__":
    main()
