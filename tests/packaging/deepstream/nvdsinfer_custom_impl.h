// The part of nvinfer's published interface that a parser of instance masks meets, in the layout of
// DeepStream 6 to 7 (nvdsinfer.h and nvdsinfer_custom_impl.h), so that one can be compiled and run
// where DeepStream is not installed. Field names, types and their order are the contract.
#pragma once

#include <vector>

constexpr unsigned int NVDSINFER_MAX_DIMS = 8;

struct NvDsInferDims {
    unsigned int numDims;
    unsigned int d[NVDSINFER_MAX_DIMS];
    unsigned int numElements;
};

enum NvDsInferDataType { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3 };

struct NvDsInferLayerInfo {
    NvDsInferDataType dataType;
    union {
        NvDsInferDims inferDims;
        NvDsInferDims dims;
    };
    int bindingIndex;
    const char* layerName;
    void* buffer;
    int isInput;
};

struct NvDsInferNetworkInfo {
    unsigned int width;
    unsigned int height;
    unsigned int channels;
};

struct NvDsInferParseDetectionParams {
    unsigned int numClassesConfigured;
    std::vector<float> perClassPreclusterThreshold;
    std::vector<float> perClassPostclusterThreshold;
    std::vector<float>& perClassThreshold = perClassPreclusterThreshold;
};

struct NvDsInferInstanceMaskInfo {
    unsigned int classId;
    float left;
    float top;
    float width;
    float height;
    float detectionConfidence;
    float* mask;
    unsigned int mask_width;
    unsigned int mask_height;
    unsigned int mask_size;
};

using NvDsInferInstanceMaskParseCustomFunc = bool (*)(
    std::vector<NvDsInferLayerInfo> const&, NvDsInferNetworkInfo const&,
    NvDsInferParseDetectionParams const&, std::vector<NvDsInferInstanceMaskInfo>&);

#define CHECK_CUSTOM_INSTANCE_MASK_PARSE_FUNC_PROTOTYPE(name)                              \
    static void check_##name(NvDsInferInstanceMaskParseCustomFunc function = name)         \
    {                                                                                      \
        (void)function;                                                                    \
        (void)check_##name;                                                                \
    }                                                                                      \
    static_assert(true, "")
