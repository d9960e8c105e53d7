"""The zoo: one family of networks per file, and the algebra that folds them."""
