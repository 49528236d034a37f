"""One file a question.

`python -m benchmarks.NAME --json` prints one JSON object a line; `python -m benchmarks` runs all.
"""
