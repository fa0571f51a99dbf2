"""Surgery on graphs that others exported."""
