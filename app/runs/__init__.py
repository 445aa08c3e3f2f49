"""Runs: training, chains, the folder that each is kept in."""
