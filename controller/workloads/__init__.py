"""Pods that opted in, as they live on after admission.

Their checkpoints are made where they asked for one, they are held and let go, reported on, and counted.
``plan`` functions are pure; nothing here ever deletes a pod.
"""
