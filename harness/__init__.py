"""What a person runs: the walk, the stopwatch, comparisons, bundles and reports."""
