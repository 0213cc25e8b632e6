"""What every long-running process of ours has in common: settings, logs, health, and an orderly end.

Anything that only some of them need lives with them.
"""
