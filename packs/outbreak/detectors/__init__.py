"""Detectors of four kinds; each is a pure function of a series up to the week that is judged."""
