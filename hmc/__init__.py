"""Sampling by Hamiltonian Monte Carlo; knows a net only as "energy(x) -> value, gradient"."""
