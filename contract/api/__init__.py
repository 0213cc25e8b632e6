"""Words and shapes of the Kubernetes objects that the rooms share: keys, states, ids, reports, times."""
