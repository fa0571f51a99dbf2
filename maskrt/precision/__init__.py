"""From pictures to a recipe inside a budget, and whether its INT8 pays.

In: a canonical graph, calibration pictures, annotated ones. Out: statistics, a recipe, a journal.
Imported by `compiling` and what is above it; imports `checking` and the folders of the pipeline.
"""
