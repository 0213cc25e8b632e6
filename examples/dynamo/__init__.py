"""A stand-in for the platform's package, so that its manifests run unchanged where there is no GPU."""
