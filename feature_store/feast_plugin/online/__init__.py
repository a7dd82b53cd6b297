"""Online reads of Feast's clients: planned once, read in one trip, answered as Feast does."""
