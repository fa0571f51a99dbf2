"""The same work over the workers of a Dask scheduler, with the same numbers.

In: a bundle and pictures that every worker sees. Out: what `checking` and `precision` give.
Imported by `pipeline` and the command line; imports `compiling` and what is below it.
"""
