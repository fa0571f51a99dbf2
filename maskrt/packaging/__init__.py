"""Engines for other servers: Triton, and DeepStream's `nvinfer`.

In: a bundle. Out: a folder that the server takes as it is.
Imported by the command line; imports the folders of the pipeline.
"""
