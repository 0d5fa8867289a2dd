"""Import of BLURB's folders, from synthetic rows, and the catalogue against the real rows."""

import json
from pathlib import Path

import pytest

from study.core.spec import SpecError
from study.tasks import BLURB, TASKS, Task
from study.tasks.blurb import LAYOUT, import_blurb
from tests import needs

TAGGED = "-DOCSTART-\tO\n\nBRCA1\tB\nmutations\tI\noccur\tO\n\nnone\tO\n"
FILES = {
    "NCBI-disease": TAGGED,
    "BC2GM": TAGGED,
    "BC5CDR-chem": TAGGED,
    "BC5CDR-disease": TAGGED,
    "JNLPBA": TAGGED.replace("\tB", "\tB-protein").replace("\tI", "\tI-DNA"),
    "ebmnlp": "Adults\tI-PAR\ntook\tO\naspirin\tI-INT\n\nno\tO\npain\tI-OUT\n",
    "chemprot": "1.T1.T2\t@CHEMICAL$ blocks @GENE$ .\tCPR:4\n1.T1.T3\tnone\tfalse\n",
    "DDI": "d0.p0\t@DRUG$ and @DRUG$\tDDI-false\nd0.p1\t@DRUG$ with @DRUG$\tDDI-int\n",
    "GAD": 'index\tsentence\tlabel\n0\t@GENE$ and "@DISEASE$\t1\n1\tnone\t0\n',
    "BIOSSES": "index\tsentence1\tsentence2\tscore\n3\tone\ttwo\t2.4\n",
    "HoC": (
        "labels\tsentence\tid\n"
        "0_0,1_0,7_1\tFirst .\t12_s0\n"
        "0_1,1_0,7_0\tSecond .\t12_s1\n"
        "0_0,1_0,7_0\tThird .\t13_s0\n"
    ),
    "BioASQ": "q1\tIs it?\tYes it is.\tyes\nq2\tIs it not?\tIt is not.\tno\n",
}


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        for split in ("train", "dev", "test"):
            file = tmp_path / "data" / name / f"{split}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    entry = {"QUESTION": "Is it? ", "CONTEXTS": ["One.", " ", "Two."], "final_decision": "maybe"}
    for split in ("pqal_fold0/train", "pqal_fold0/dev", "test"):
        file = tmp_path / "data" / "pubmedqa" / f"{split}_set.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({f"{split[-4:]}7": entry}))
    counts = import_blurb(tmp_path / "data", tmp_path / "out")
    assert set(counts) == set(LAYOUT) == {task.name for task in BLURB}
    return tmp_path / "out"


def rows(folder: Path, name: str, split: str = "train") -> list[dict[str, object]]:
    from study.tasks.reading import _json_lines

    return _json_lines(folder / name / f"{split}.jsonl.gz")[0]


def test_tagged_sentences(imported):
    assert rows(imported, "ncbi_disease") == [
        {
            "id": "NCBI-disease-train-0",
            "tokens": ["BRCA1", "mutations", "occur"],
            "tags": ["B-Disease", "I-Disease", "O"],
        },
        {"id": "NCBI-disease-train-1", "tokens": ["none"], "tags": ["O"]},
    ]
    assert rows(imported, "jnlpba")[0]["tags"] == ["B-Entity", "I-Entity", "O"]  # merged
    assert rows(imported, "ebm_pico")[0]["tags"] == ["I-PAR", "O", "I-INT"]  # kept


def test_sentences_of_an_abstract_are_joined_and_have_the_union_of_labels(imported):
    assert rows(imported, "hoc") == [
        {
            "id": "hoc-12",
            "text": "First . Second .",
            "labels": ["activating invasion and metastasis", "resisting cell death"],
        },
        {"id": "hoc-13", "text": "Third .", "labels": []},
    ]


def test_questions_relations_and_pairs(imported):
    assert rows(imported, "pubmedqa")[0] == {
        "id": "pubmedqa-rain7",
        "text": "Is it?",
        "text_pair": "One. Two.",
        "label": "maybe",
    }
    assert rows(imported, "bioasq")[1]["label"] == "no"
    assert rows(imported, "gad")[0]["text"] == '@GENE$ and "@DISEASE$'  # quotes are text
    assert rows(imported, "biosses")[0]["label"] == 2.4


@pytest.mark.parametrize("task", BLURB, ids=lambda task: task.name)
def test_every_task_reads_what_was_imported(imported, task):
    ids = {}
    for split in ("train", "dev", "test"):  # separately, since all splits have the same file here
        ids[split] = [row["id"] for row in rows(imported, task.name, split)]
        assert len(set(ids[split])) == len(ids[split])
    if task.name in ("biosses", "chemprot", "ddi", "hoc", "bioasq"):
        return  # their ids come from the corpus, so all splits have the same ids here
    task.replace(folder=str(imported)).load()


def test_a_malformed_line_is_named(tmp_path):
    folder = tmp_path / "DDI"
    folder.mkdir()
    (folder / "train.tsv").write_text("a\tb\tDDI-int\nc\td\n")
    with pytest.raises(SpecError, match=r"train.tsv, line 2 has 2 columns instead of 3"):
        import_blurb(tmp_path, tmp_path / "out")


def test_a_folder_without_blurb_data_is_an_error(tmp_path):
    with pytest.raises(SpecError, match="has none of the folders BC2GM, "):
        import_blurb(tmp_path, tmp_path / "out")


BUNDLED = {"terms", "squad_sentences", "wikipedia_text", "facts"}
NO_ROWS = {"bioasq", "ncbi_disease", *BUNDLED}  # in the shared folder
HERE = [task for task in TASKS.values() if not str(task.train).startswith("hf:")]
REAL = [task for task in HERE if task.name not in NO_ROWS]


@pytest.mark.parametrize("task", REAL, ids=lambda task: task.name)
def test_the_catalogue_reads_the_real_rows(task: Task):
    facts = json.loads(needs.shared("data", task.name, "meta.json").read_text())
    data = task.replace(folder=str(needs.shared("data"))).load()
    assert {name: len(split.ids) for name, split in data.splits.items()} == facts["splits"]
    assert data.kind.labels == tuple(facts["labels"])
    assert task.metric == facts["metric"]
    if "negative_label" in facts:
        assert data.kind.labels[0] == facts["negative_label"]
