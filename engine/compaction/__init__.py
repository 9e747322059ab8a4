"""Compaction: deciding what to merge (`picker`), merging (`merge`), and writing the result (`job`)."""
