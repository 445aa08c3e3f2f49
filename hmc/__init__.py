"""Sampling by Hamiltonian Monte Carlo. Only energy.py knows of nets."""
