"""The explorable page: a template, and the numbers and images of runs that it shows."""
