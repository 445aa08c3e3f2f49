"""Loss layers: pure functions (scores, labels) -> (loss, dscores, info), knowing nothing of nets."""
