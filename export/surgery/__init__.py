"""Surgery (work in progress)."""
