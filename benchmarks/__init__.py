"""Measures what the library costs, in paired runs on this machine: `python -m benchmarks --help`."""
