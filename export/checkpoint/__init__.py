"""Checkpoints as training programs write them, read without running anything that they hold.

inert_pickle.py   a pickle as data: names stay names, calls become records
torch_file.py     `torch.save`'s two formats: the pickle, and storages beside it
arrays.py         NumPy's arrays in a pickle, from their records
parts.py          which part of a checkpoint holds the weights
"""
