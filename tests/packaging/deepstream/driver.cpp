// Calls the parser as nvinfer does, for a test: thresholds before, delete[] of the masks after.
#include <dlfcn.h>

#include <cstring>
#include <string>
#include <vector>

#include "nvdsinfer_custom_impl.h"

struct Layer {
    const char* name;
    int type;
    unsigned int dims[3];
    unsigned int numDims;
    void* buffer;
};

// Returns how many instances there are, or -1 if the parser refused, -2 if it was not found.
extern "C" int parse(
    const char* library, const char* function, const Layer* given, int layers, int height,
    int width, int classes, float threshold, float* numbers, float* masks)
{
    void* handle = dlopen(library, RTLD_LAZY);
    void* symbol = handle ? dlsym(handle, function) : nullptr;
    if (!symbol) {
        return -2;
    }
    std::vector<NvDsInferLayerInfo> infos;
    for (int i = 0; i < layers; ++i) {
        NvDsInferLayerInfo info{};
        info.dataType = static_cast<NvDsInferDataType>(given[i].type);
        info.inferDims.numDims = given[i].numDims;
        std::memcpy(info.inferDims.d, given[i].dims, sizeof(given[i].dims));
        info.bindingIndex = i + 1;
        info.layerName = given[i].name;
        info.buffer = given[i].buffer;
        infos.push_back(info);
    }
    NvDsInferNetworkInfo network{
        static_cast<unsigned int>(width), static_cast<unsigned int>(height), 3};
    NvDsInferParseDetectionParams params{
        static_cast<unsigned int>(classes), std::vector<float>(classes, threshold), {}};
    std::vector<NvDsInferInstanceMaskInfo> found;
    auto parser = reinterpret_cast<NvDsInferInstanceMaskParseCustomFunc>(symbol);
    const bool worked = parser(infos, network, params, found);
    for (const NvDsInferInstanceMaskInfo& one : found) {
        const float row[] = {
            float(one.classId), one.left, one.top, one.width, one.height, one.detectionConfidence,
            float(one.mask_width), float(one.mask_height), float(one.mask_size)};
        numbers = std::copy(row, row + 9, numbers);
        masks = std::copy(one.mask, one.mask + one.mask_width * one.mask_height, masks);
        delete[] one.mask;
    }
    return worked ? int(found.size()) : -1;
}
