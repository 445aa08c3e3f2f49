"""ConvNet layers written by hand, each with its backward pass."""

from nn import threads  # noqa: F401  (before NumPy is loaded: see threads.py)
