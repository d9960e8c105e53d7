"""The reference evaluator of MIL, the language of Core ML packages: operator by operator, on torch."""
