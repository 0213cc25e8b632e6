"""The registry of reasons: what each code of the closed lists means and what to do about it, once for all readers.

The command line, Events and three pages of ``docs/`` are written from it.
"""
