"""Write the tables of docs/numbers, as commands have measured them, into README and docs.

python -m benchmarks.fill

A place for one is between the lines <!-- numbers/NAME.md --> and <!-- end -->. There stands what
docs/numbers/NAME.md has below its title, so that a command writes each number, and in one place.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- (numbers/[\w.-]+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A document with its places filled. OSError if a file of numbers is missing."""

    def fill(place):
        first, name, last = place.groups()
        numbers = (ROOT / "docs" / name).read_text(encoding="utf-8")
        return f"{first}\n{numbers.partition(chr(10))[2].strip()}\n\n{last}"

    return PLACE.sub(fill, text)


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for path in documents():
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
