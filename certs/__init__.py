"""Certificates as code: minted, judged, rotated with overlap, served without a restart."""
