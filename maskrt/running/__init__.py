"""Engines over pictures and films, and how fast they are.

In: a bundle with an engine, and files. Out: drawn pictures, COCO JSON, a bench.
Imported by `pipeline` and the command line; imports `checking` and `runtime`.
"""
