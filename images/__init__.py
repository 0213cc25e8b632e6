"""Container images without a container engine.

An image is a short list of layers, and every layer is a folder packed reproducibly: Debian packages unpacked by an apt
of its own, wheels pinned by hash, our own rooms, one static program.
Each step is cached under the hash of what went into it, so a changed room costs one small layer.
The result is a docker-archive that ``ctr images import``, ``docker load`` and ``skopeo`` read.
"""
