"""Segments: the immutable, sorted files of the tree (sorted-string tables)."""
