"""What every MIL operator computes: one theme per file; ``table.py`` beside this folder lists them all."""
