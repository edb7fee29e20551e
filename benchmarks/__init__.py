"""What tidemill costs, each figure beside its floor in the same run and beside what others need for the same.

``python -m benchmarks`` measures everything; docs/performance.md tells what the figures mean.
"""
