"""The `lamina` command: one module per verb."""
