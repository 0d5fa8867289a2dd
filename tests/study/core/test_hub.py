"""Without a network the hub fails fast, with a message that says what to do."""

import socket
import sys
import time

import pytest

from study.cli.parser import run_command
from study.core import hub
from study.core.spec import SpecError
from study.models.model import Model
from study.tasks.reading import read_rows
from study.testing import tiny_model

STUDY = """\
from study import Standard, Study, Task
from study.models.model import Model

STUDY = Study(
    name="far",
    tasks=[Task(name="pairs", train="train.jsonl", dev="dev.jsonl", test="test.jsonl",
                text_pair="text_pair")],
    models=[Model(name="far", checkpoint="someone/some-model")],
    techniques=[Standard()],
    seeds=[0],
    data={folder!r},
)
"""


@pytest.fixture
def no_hub(monkeypatch):
    """The hub's address is a port without a listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub.reachable.cache_clear()
    yield
    hub.reachable.cache_clear()


def test_running_with_an_unavailable_hub_model_says_what_to_do(no_hub, task, tmp_path, capsys):
    (tmp_path / "far.py").write_text(STUDY.format(folder=task.train.rpartition("/")[0]))
    began = time.monotonic()
    assert run_command(["run", str(tmp_path / "far.py")]) == 2
    assert time.monotonic() - began < 30
    assert capsys.readouterr().err == (
        "1 mistake in study 'far':\n"
        "  models[0].checkpoint: 'someone/some-model' is neither a local folder nor in the hub's "
        "cache, and the hub does not answer. On a machine with network access run: hf download "
        "someone/some-model --local-dir FOLDER; then use that folder as the checkpoint.\n"
    )


def test_an_unavailable_hub_data_set_says_what_to_do(no_hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", object())  # is not called
    with pytest.raises(SpecError, match="the hub does not answer.*name those files"):
        read_rows("hf:someone/some-data:train", ["text", "label"], id_column="id", split="train")


def test_cached_files_need_no_hub(no_hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--cached"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    tiny_model(repository / "snapshots" / ("0" * 40))
    assert Model(name="m", checkpoint="someone/cached").folder().name == "0" * 40


@pytest.mark.slow
def test_a_hub_that_accepts_connections_but_never_answers_times_out(no_hub, monkeypatch):
    """The hub's own client sets no timeout and hangs."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(SpecError, match="the hub does not answer"):
            Model(name="m", checkpoint="someone/some-model").folder()
        assert time.monotonic() - began < hub.TIMEOUT_SECONDS + 5
