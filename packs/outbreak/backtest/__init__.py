"""The back-test: the detectors and their consensus on a real series, week by week, as it was known then."""
