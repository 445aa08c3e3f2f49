"""README and docs say what the files of numbers say."""

import pytest

from benchmarks.fill import PLACE, documents, filled


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_tables_are_those_that_the_commands_wrote(path):
    text = path.read_text(encoding="utf-8")
    assert filled(text) == text, "python -m benchmarks.fill"
    assert text.count("<!-- numbers/") == text.count("<!-- end -->") == len(PLACE.findall(text))
