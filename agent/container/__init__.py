"""One container as the node shows it: its processes, image, root file system, volumes and storage."""
