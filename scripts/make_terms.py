"""Build the bundled task `terms` (do two names mean the same term?) from the biomappings wheel.

    pip download --no-deps biomappings==0.6.0
    python scripts/make_terms.py biomappings-0.6.0-py3-none-any.whl

The same wheel gives the same files. study/bundled/terms/README.md describes
their content.
"""

import argparse
import csv
import gzip
import hashlib
import json
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TABLES = [f"biomappings/resources/{name}.sssom.tsv" for name in ("positive", "negative")]
FOLDER = Path(__file__).parents[1] / "study" / "bundled" / "terms"
SHARES = {"train": 0.5, "dev": 0.25, "test": 0.25}
RESTRICTED = {"cpt", "kegg.pathway", "umls"}  # their licences restrict redistribution of the names
ROWS_PER_NAME = 3  # some abbreviations are in many pairs: `SP` was rejected for nineteen terms


@dataclass(frozen=True)
class Pair:
    """Two terms that a curator judged.

    Attributes:
        terms: Their identifiers, `source:local`, in alphabetical order, since the curator's order
            could reveal the label.
        names: Their names, in the same order.
        label: `same` or `different`.
    """

    terms: tuple[str, str]
    names: tuple[str, str]
    label: str

    @property
    def id(self) -> str:
        """An id that depends only on the two terms."""
        return f"terms-{digest(' '.join(self.terms))[:10]}"

    @property
    def sources(self) -> tuple[str, ...]:
        """The two vocabularies."""
        return tuple(term.split(":")[0] for term in self.terms)


def digest(text: str) -> str:
    """A fixed pseudo-random rank of a text; the only source of randomness here."""
    return hashlib.sha256(text.encode()).hexdigest()


def letters(name: str) -> str:
    """Letters and digits of a name: lower case, without spaces and punctuation."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def words(name: str) -> str:
    """Sorted lower-case words without plural s: `Arteries, Cerebral` gives `arterie cerebral`."""
    found = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(sorted(word.removesuffix("s") if len(word) > 3 else word for word in found))


def read_pairs(table: Iterable[str]) -> list[Pair]:
    """Read the usable rows of a curated table.

    Args:
        table: Lines of an SSSOM table; comments come first and start with `#`.

    Returns:
        One pair per row labelled exact match, or not an exact match, for two terms whose names
        differ in more than case, spaces and punctuation.
    """
    lines = (line for line in table if not line.startswith("#"))
    pairs = []
    for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        sides = [
            (row[f"{side}_id"], row[f"{side}_label"].strip()) for side in ("subject", "object")
        ]
        (term_a, name_a), (term_b, name_b) = sorted(sides)
        label = "different" if row.get("predicate_modifier") == "Not" else "same"
        pair = Pair((term_a, term_b), (name_a, name_b), label)
        if (
            row["predicate_id"] == "skos:exactMatch"
            and RESTRICTED.isdisjoint(pair.sources)
            and letters(name_a)
            and letters(name_b)
            and letters(name_a) != letters(name_b)
        ):
            pairs.append(pair)
    return pairs


def unambiguous(pairs: list[Pair]) -> list[Pair]:
    """Drop duplicate pairs (by terms or by names), and all pairs with contradictory labels."""

    def keys(pair: Pair) -> tuple[tuple[str, str], frozenset[str]]:
        return pair.terms, frozenset(map(letters, pair.names))

    judged = defaultdict(set)
    for pair in pairs:
        for key in keys(pair):
            judged[key].add(pair.label)
    seen: set[object] = set()
    kept = []
    for pair in sorted(pairs, key=lambda pair: pair.terms):
        if seen.isdisjoint(keys(pair)) and all(len(judged[key]) == 1 for key in keys(pair)):
            kept.append(pair)
        seen.update(keys(pair))
    return kept


def rare_names(pairs: list[Pair], most: int) -> list[Pair]:
    """Keep at most `most` pairs per name, chosen by digest."""
    count: Counter[str] = Counter()
    kept = []
    for pair in sorted(pairs, key=lambda pair: digest(pair.id)):
        names = [letters(name) for name in pair.names]
        if all(count[name] < most for name in names):
            count.update(names)
            kept.append(pair)
    return kept


def connected(pairs: list[Pair]) -> list[list[Pair]]:
    """Group pairs into connected components: no term or name, in any spelling, is in two groups.

    Returns:
        The groups, largest first; groups of equal size are ordered by digest.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for pair in pairs:
        for term, name in zip(pair.terms, pair.names, strict=True):
            for node in (term, f"letters {letters(name)}", f"words {words(name)}"):
                parent[root(node)] = root(pair.terms[0])
    groups = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: pair.id):
        groups[root(pair.terms[0])].append(pair)
    return sorted(groups.values(), key=lambda group: (-len(group), digest(group[0].id)))


def balanced(pairs: list[Pair]) -> list[Pair]:
    """As many `same` as `different` pairs within each pair of vocabularies.

    The curators accepted most pairs of some vocabularies and rejected all pairs of others, and the
    style of a name reveals its vocabulary. Without balance within each pair of vocabularies the
    style would therefore predict the label.
    """
    cells: dict[tuple[str, ...], dict[str, list[Pair]]] = {}
    for group in sorted(connected(pairs), key=lambda group: digest(group[0].id)):
        for pair in group:
            cells.setdefault(pair.sources, {"same": [], "different": []})[pair.label].append(pair)
    return [
        pair
        for cell in cells.values()
        for label in cell
        for pair in cell[label][: min(map(len, cell.values()))]
    ]


def split(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Assign whole groups, largest first, each to the split furthest below its label counts.

    Returns:
        The pairs of each split, sorted by id, which is unrelated to their content.
    """
    total = Counter(pair.label for pair in pairs)
    have: dict[str, Counter[str]] = {name: Counter() for name in SHARES}
    splits: dict[str, list[Pair]] = {name: [] for name in SHARES}
    for group in connected(pairs):
        labels = [pair.label for pair in group]
        lacking = {
            name: sum(1 - have[name][label] / (share * total[label]) for label in labels)
            for name, share in SHARES.items()
        }
        chosen = max(lacking, key=lambda name: lacking[name])
        have[chosen].update(labels)
        splits[chosen].extend(group)
    return {name: sorted(part, key=lambda pair: pair.id) for name, part in splits.items()}


def packed(pairs: list[Pair]) -> bytes:
    """The rows as gzipped JSON lines, without a timestamp, so that the bytes are reproducible."""
    rows = [
        {"id": pair.id, "text": pair.names[0], "text_pair": pair.names[1], "label": pair.label}
        for pair in pairs
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return gzip.compress(text.encode(), mtime=0)


def main() -> None:
    """Read the wheel named on the command line and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="biomappings-0.6.0-py3-none-any.whl")
    with zipfile.ZipFile(parser.parse_args().wheel) as wheel:
        tables = [wheel.read(name).decode().splitlines() for name in TABLES]
    pairs = unambiguous([pair for table in tables for pair in read_pairs(table)])
    for name, part in split(balanced(rare_names(pairs, ROWS_PER_NAME))).items():
        (FOLDER / f"{name}.jsonl.gz").write_bytes(packed(part))
        print(name, len(part), dict(sorted(Counter(pair.label for pair in part).items())))


if __name__ == "__main__":
    main()
