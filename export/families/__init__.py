"""Model families, one file each: what turns a PyTorch model into a graph of static shapes."""
