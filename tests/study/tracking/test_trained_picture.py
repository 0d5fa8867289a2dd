"""The picture of what a run trained when."""

from dataclasses import replace
from xml.etree import ElementTree

from study.tracking.outbox import Outbox
from study.tracking.schema import RUN_JSON, TRAINED
from study.tracking.trained_picture import CELL, trained_picture
from tests.study.tracking.conftest import entry

SVG = "{http://www.w3.org/2000/svg}"
CURVES = [
    ("trained/depth_00", 0.0, 1),
    ("trained/depth_00", 0.25, 2),
    ("trained/depth_01", 0.5, 1),
    ("trained/depth_01", 1.0, 2),
    ("trained/depth_02", 1.0, 1),
    ("trained/depth_02", 1.0, 2),
]


def test_a_cell_for_each_depth_and_epoch():
    picture = ElementTree.fromstring(trained_picture([("dev", 0.9, 0), *CURVES]))
    cells = {
        cell.findtext(f"{SVG}title"): (
            float(cell.get("x")),
            float(cell.get("y")),
            float(cell.get("fill-opacity")),
        )
        for cell in picture.iter(f"{SVG}rect")
    }
    assert {name: opacity for name, (_, _, opacity) in cells.items()} == {
        "embeddings, epoch 1: 0%": 0.0,
        "embeddings, epoch 2: 25%": 0.25,
        "layer 1, epoch 1: 50%": 0.5,
        "layer 1, epoch 2: 100%": 1.0,
        "head, epoch 1: 100%": 1.0,
        "head, epoch 2: 100%": 1.0,
    }
    left, low, _ = cells["embeddings, epoch 1: 0%"]
    right, high, _ = cells["head, epoch 2: 100%"]
    assert (right - left, low - high) == (CELL, 2 * CELL)  # epochs to the right, depths up
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert words == [
        "share of the weights trained, by epoch",
        *["embeddings", "layer 1", "head", "1", "2"],
    ]


def test_only_runs_that_chose_have_one(home, study):
    box = Outbox(home.study(study.name) / "outbox")
    plain, choosing = (entry(run) for run in study.runs()[:2])
    box.put(plain, b"")
    box.put(replace(choosing, metrics=[*choosing.metrics, *CURVES]), b"")
    names = [{file.name for file in box.get(e.key)[1].iterdir()} for e in (plain, choosing)]
    assert names == [{RUN_JSON}, {RUN_JSON, TRAINED}]
