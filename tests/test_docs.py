"""Links and file names in the documentation exist."""

import re
from pathlib import Path

import pytest

from tests.needs import ROOT, files

PAGES = files("README.md", "CONTRIBUTING.md", "docs/**/*.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_text_exist(page: Path):
    named = re.findall(
        r"`((?:study|analysis|tests|bench|docs|search_spaces)/[\w/.-]+\.\w+)`", page.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []
