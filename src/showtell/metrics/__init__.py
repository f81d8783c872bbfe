"""Metrics, usable without any model of ours: ``from showtell.metrics.scoring import score``."""
