"""What brings any operator to a place that runs it, written once over schema and launch plan.

`host` runs kernels on the CPU, `nvrtc` compiles them, `torch_cuda` launches them on PyTorch's
tensors, `tensorrt_v3` and `tensorrt_aot` make TensorRT plugins of them.
"""
