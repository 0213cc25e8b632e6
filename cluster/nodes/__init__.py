"""The nodes of a cluster: namespaces, control groups, links, and the processes in them."""
