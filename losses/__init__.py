"""Loss layers: pure functions (scores, labels) -> (loss, dscores, info); they know no nets."""
