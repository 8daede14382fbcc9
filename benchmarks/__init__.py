"""Measurements: speed and memory as ratios taken side by side in one run, faults as counts."""
