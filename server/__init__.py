"""Lamina's server: Redis's protocol, commands and data types over `lamina.engine`."""
