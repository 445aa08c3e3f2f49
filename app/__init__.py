"""All that is neither the paper nor speed: files, options, runs, pictures."""

from app import interrupts  # noqa: F401  before all that takes time to load

# isort: split
from pathlib import Path

__version__ = "0.1.0"
ROOT = Path(__file__).resolve().parent.parent  # of the clone
ASSETS = ROOT / "assets"  # MNIST and the weights that are included
