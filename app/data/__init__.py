"""Data sets: files read and checked, images in mini-batches."""
