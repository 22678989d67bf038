"""Proofs: the chip against the integer model."""
