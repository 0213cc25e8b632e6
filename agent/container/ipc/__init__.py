"""System V objects of a pod: made again by a restore, and attached again."""
