"""Every equation of the paper has its home in the code, and in the two documents about it."""

import re

import pytest

from tests.scripts import ROOT

CODE = [path for room in ("nn", "losses", "hmc") for path in (ROOT / room).glob("*.py")]


def cited(text):
    """The numbers in "Eq. 5", "Eq. 20-22", "Eq. 6 and 14-16", "Eq. 7, 8"."""
    found = set()
    for places in re.findall(r"Eq\. (\d+(?:(?:-|, | and )\d+)*)", text):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", places):
            found.update(range(int(first), int(last or first) + 1))
    return found


def test_the_parser_of_citations():
    found = cited("(Eq. 5), Eq. 20-22 and Eq. 6 and 14-16; Eq. 7, 8. 40")
    assert found == {5, 6, 7, 8, 14, 15, 16, 20, 21, 22}


@pytest.mark.parametrize("number", range(1, 23))
def test_each_equation_has_a_home(number):
    assert any(number in cited(path.read_text()) for path in CODE)
    assert number in cited((ROOT / "docs" / "derivations.md").read_text())


def test_the_documents_name_what_is_there():
    for document in ("derivations.md", "notation.md"):
        text = (ROOT / "docs" / document).read_text()
        for name in re.findall(r"`((?:nn|losses|hmc|fast|app)/[\w/]+\.py)`", text):
            assert (ROOT / name).exists(), name
