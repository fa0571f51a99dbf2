"""What `compile` and its stages do, in order.

In: a model, and what is asked of it. Out: a bundle with graph, recipe and engines.
Imported by `pipeline`, `cluster`; imports `precision`, `checking` and the folders of the pipeline.
"""
