"""Linux as this project uses it: system calls, /proc, cgroups and file trees, by descriptor and with hostile names.

Standard library and words of ``contract`` alone, so that a helper can load it in some milliseconds.
"""
