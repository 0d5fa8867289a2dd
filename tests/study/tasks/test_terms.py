import gzip
import importlib.util
import json
from collections import Counter
from itertools import combinations

import pytest

from tests.needs import ROOT

FOLDER = ROOT / "study" / "bundled" / "terms"
SPLITS = ["train", "dev", "test"]

spec = importlib.util.spec_from_file_location("make_terms", ROOT / "scripts" / "make_terms.py")
make_terms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_terms)


@pytest.fixture(scope="module")
def rows():
    return {
        name: [
            json.loads(line)
            for line in gzip.open(FOLDER / f"{name}.jsonl.gz", "rt", encoding="utf-8")
        ]
        for name in SPLITS
    }


# --- the files --------------------------------------------------------------------------------


def test_sizes_and_labels_match_the_readme(rows):
    counted = {
        name: dict(Counter(row["label"] for row in part), rows=len(part))
        for name, part in rows.items()
    }
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, count in counted.items():
        assert f"| {name} | {count['rows']} | {count['same']} | {count['different']} |" in readme
        assert count["same"] == count["different"]


def test_every_row_is_two_different_names_and_a_label(rows):
    for row in sum(rows.values(), []):
        assert list(row) == ["id", "text", "text_pair", "label"]
        assert row["label"] in {"same", "different"}
        assert make_terms.letters(row["text"])
        assert make_terms.letters(row["text_pair"])
        assert make_terms.letters(row["text"]) != make_terms.letters(row["text_pair"])


def test_ids_are_unique_over_the_splits(rows):
    ids = [row["id"] for row in sum(rows.values(), [])]
    assert len(set(ids)) == len(ids)


def test_pairs_of_names_are_unique(rows):
    pairs = [
        frozenset({make_terms.letters(row["text"]), make_terms.letters(row["text_pair"])})
        for row in sum(rows.values(), [])
    ]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("spelling", [make_terms.letters, make_terms.words])
def test_no_name_is_in_two_splits(rows, spelling):
    names = {
        name: {spelling(row[side]) for row in part for side in ("text", "text_pair")}
        for name, part in rows.items()
    }
    for one, other in combinations(SPLITS, 2):
        assert names[one] & names[other] == set()


def test_the_files_are_small():
    assert sum((FOLDER / f"{name}.jsonl.gz").stat().st_size for name in SPLITS) <= 300_000


# --- the script that made them ----------------------------------------------------------------

HEAD = [
    *["subject_id", "subject_label", "predicate_id", "predicate_modifier"],
    *["object_id", "object_label"],
]
TABLE = [
    ["mesh:1", "Arteries, Cerebral", "skos:exactMatch", "", "doid:1", "cerebral artery"],
    ["mesh:2", "Stem Cells", "skos:exactMatch", "Not", "cl:2", "stem-cells of plants"],
    ["mesh:3", "Iron", "skos:exactMatch", "", "chebi:3", "iron"],  # the same name
    ["mesh:4", "Iron", "skos:broadMatch", "", "chebi:4", "iron atom"],  # no exact match
    ["umls:5", "Yaws", "skos:exactMatch", "", "doid:5", "frambesia"],  # may not be passed on
]


def pair(terms, names, label="same"):
    return make_terms.Pair(terms, names, label)


def test_only_usable_rows_are_read_and_terms_are_put_in_order():
    table = ["#comment", *("\t".join(row) for row in [HEAD, *TABLE])]
    assert make_terms.read_pairs(table) == [
        pair(("doid:1", "mesh:1"), ("cerebral artery", "Arteries, Cerebral")),
        pair(("cl:2", "mesh:2"), ("stem-cells of plants", "Stem Cells"), "different"),
    ]


def test_spellings():
    assert make_terms.letters("Beta-2  Agonist") == make_terms.letters("beta 2 agonist")
    assert make_terms.words("Kidney Stones, Large") == make_terms.words("large kidney stone")
    assert make_terms.words("Gas") == "gas"  # too short for a plural


def test_repeated_pairs_count_once_and_contradictions_not_at_all():
    kept = pair(("a:1", "b:1"), ("x", "y"))
    pairs = [
        pair(("a:2", "b:2"), ("Y", "X")),  # the same names in reverse
        kept,
        pair(("a:3", "b:3"), ("p", "q")),
        pair(("a:4", "b:4"), ("q", "P"), "different"),
        pair(("a:5", "b:5"), ("v", "w")),
        pair(("a:5", "b:5"), ("v2", "w2"), "different"),
    ]
    assert make_terms.unambiguous(pairs) == [kept]


def test_the_number_of_pairs_per_name_is_limited():
    pairs = [pair((f"a:{i}", f"b:{i}"), ("SP", f"long {i}")) for i in range(5)]
    assert len(make_terms.rare_names(pairs, 3)) == 3


def test_groups_connect_by_term_by_name_and_by_other_spelling():
    chain = [
        pair(("a:1", "b:1"), ("one", "two")),
        pair(("a:1", "c:1"), ("one!", "three cells")),  # by term and by name
        pair(("d:1", "e:1"), ("Cell, three", "four")),  # by spelling
    ]
    alone = pair(("a:9", "b:9"), ("nine", "ten"))
    groups = make_terms.connected([alone, *chain])
    assert [set(group) for group in groups] == [set(chain), {alone}]


def test_labels_are_balanced_within_each_pair_of_vocabularies():
    pairs = [
        *(pair((f"a:{i}", f"b:{i}"), (f"n{i}", f"m{i}")) for i in range(4)),
        pair(("a:4", "b:4"), ("n4", "m4"), "different"),
        pair(("a:5", "c:5"), ("n5", "m5")),  # never rejected
    ]
    chosen = make_terms.balanced(pairs)
    assert Counter((p.sources, p.label) for p in chosen) == {
        (("a", "b"), "same"): 1,
        (("a", "b"), "different"): 1,
    }


def test_split_keeps_groups_whole_and_shares_the_labels():
    pairs = [
        pair((f"a:{i}", f"b:{i}"), (f"n{i}", f"m{i}"), label)
        for i, label in enumerate(["same", "different"] * 8)
    ]
    linked = [pair(("a:0", "b:20"), ("n0", "m20")), pair(("a:0", "b:21"), ("n0", "m21"))]
    splits = make_terms.split([*pairs, *linked])
    assert Counter(p.label for p in splits["train"]) == {"same": 5, "different": 4}
    assert [len(splits[name]) for name in SPLITS] == [9, 5, 4]
    assert sum({pairs[0], *linked} <= set(part) for part in splits.values()) == 1
    assert make_terms.split([*linked, *reversed(pairs)]) == splits  # independent of row order


def test_packed_rows_are_reproducible_and_can_be_read_back():
    packed = make_terms.packed([pair(("a:1", "b:1"), ("Käse", "cheese"))])
    assert packed[4:8] == bytes(4)  # the time field of a gzip header
    assert json.loads(gzip.decompress(packed)) == {
        "id": pair(("a:1", "b:1"), ("", "")).id,
        "text": "Käse",
        "text_pair": "cheese",
        "label": "same",
    }
