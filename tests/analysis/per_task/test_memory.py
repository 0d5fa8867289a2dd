"""Where the memory of a training step goes, by cell."""

import numpy as np
import pytest

from analysis import memory, memory_table, to_text
from analysis.frames.columns import MEMORY


@pytest.fixture
def measured(clean):
    """The runs of Standard were measured, each larger by a MB than the one before."""
    own = clean["configuration"] == "Standard"
    sizes = dict(zip(MEMORY, (90e6, 80e6, 180e6, 400e6), strict=True))
    return clean.assign(
        **{name: np.where(own, size + 1e6 * clean["seed"], np.nan) for name, size in sizes.items()}
    )


def test_the_largest_step_of_any_run(measured):
    found = memory(measured)
    assert list(found["configuration"]) == ["Standard", "Standard"]
    row = found.iloc[0]
    assert list(row[MEMORY]) == [96e6, 86e6, 186e6, 406e6]  # of seed 6
    assert row["total_bytes"] == 774e6
    assert (row["n"], row["peak_memory_bytes"]) == (7, 9e8)


def test_the_table_is_in_mb_and_says_what_a_cpu_does(measured):
    text = " ".join(to_text(memory_table(memory(measured))).split())
    assert "774" in text
    assert "On a CPU dropout saves its masks as four bytes an entry" in text
    gpu = memory_table(memory(measured.assign(device="NVIDIA H200")))
    assert not any("On a CPU dropout" in note for note in gpu.notes)


def test_runs_that_were_not_measured_have_no_row(clean, measured):
    assert memory(clean).empty
    assert memory_table(memory(clean)).body == ()
    one = measured["key"] == measured.loc[measured["configuration"] == "Standard", "key"].iloc[0]
    part = measured.assign(activations_bytes=measured["activations_bytes"].mask(one))
    assert dict(zip(memory(part)["task"], memory(part)["n"], strict=True)) == {"rte": 7, "terms": 6}
