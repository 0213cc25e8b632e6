"""Why a capture does not progress: read from pods, agents and Job Events, with a remedy."""
