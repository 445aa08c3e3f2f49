"""The textbook: ConvNet layers written by hand, each with its backward pass, on NumPy or CuPy."""
