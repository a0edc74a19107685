"""The table of differences, its document, and their agreement."""

import re

import driver
import pytest
from differences import DIFFERENCES
from harness import ROOT

DOCUMENT = ROOT / "docs" / "compatibility.md"
RELEASES = {"etcd34": "3.4", "etcd35": "3.5"}


def row(entry):
    releases = ", ".join(RELEASES[kind] for kind in entry.kinds)
    return f"| `{entry.id}` | {releases} | {entry.reason} | {entry.text} |"


def test_ids_are_unique():
    names = [entry.id for entry in DIFFERENCES]
    assert len(names) == len(set(names))


def test_document_mirrors_the_table():
    documented = [line for line in DOCUMENT.read_text().splitlines() if re.match(r"\| `[a-z0-9-]+` \|", line)]
    expected = [row(entry) for entry in DIFFERENCES]
    assert documented == expected, "rows expected in docs/compatibility.md:\n" + "\n".join(expected)


def test_no_stale_difference(request):
    """Every entry explains something; one that does not hides nothing but the truth."""
    config = request.config
    if config.option.keyword or any("::" in str(each) or str(each).endswith(".py")
                                    for each in config.args) or request.session.testsfailed:
        pytest.skip("needs the whole suite")
    assert [(entry.id, kind) for entry in DIFFERENCES for kind in entry.kinds
            if not entry.racy and not driver.TALLY.explained[entry.id, kind]] == []
