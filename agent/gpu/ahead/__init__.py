"""Device memory on the card before its process is there: filled from files, or from the memory of another worker.

``prefetch`` is the agent's side; all else is of the resident process (``prefetcher``), which loads no other package.
"""
