"""What was lost on the way from the FP32 model to an engine, and where.

In: an export or a bundle, and pictures. Out: a proof for the manifest, or a report.
Imported by all rooms above it; imports only the folders of the pipeline.
"""
