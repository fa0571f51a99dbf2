// Parser for Gst-nvinfer (DeepStream): what a maskrt engine finds, as nvinfer's instances.
//
// | output layer | type, without the batch | |
// |---|---|---|
// | boxes  | FLOAT [D, 4]    | xyxy, pixels of the network's input |
// | scores | FLOAT [D]       | descending |
// | labels | INT32 [D]       | index into the labels file; 0 is background and never found |
// | masks  | FLOAT [D, M, M] | probabilities over the box |
// | count  | INT32 [1]       | how many of the D are real |
//
// nvinfer scales boxes to the frame, lays each mask over its box, and compares it with
// segmentation-threshold. What lies below a class's pre-cluster-threshold is left out here: nvinfer
// would leave it out afterwards, but not free its mask.
//
// Compile on the device: make (see Makefile). nvinfer frees the masks with delete[].

#include <algorithm>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "nvdsinfer_custom_impl.h"

namespace {

using Layers = std::vector<NvDsInferLayerInfo>;

// The layer of that name, type and number of dimensions, or nullptr after saying what is wrong.
const NvDsInferLayerInfo* find(
    const Layers& layers, const char* name, NvDsInferDataType type, unsigned int dims)
{
    for (const NvDsInferLayerInfo& layer : layers) {
        if (!layer.layerName || std::strcmp(layer.layerName, name) != 0) {
            continue;
        }
        if (layer.dataType == type && layer.inferDims.numDims == dims && layer.buffer) {
            return &layer;
        }
        std::cerr << "maskrt: the output " << name << " has type " << layer.dataType << " and "
                  << layer.inferDims.numDims << " dimensions, not " << type << " and " << dims
                  << ": package the engine again with maskrt package --deepstream." << std::endl;
        return nullptr;
    }
    std::cerr << "maskrt: the engine has no output " << name
              << ": build it from the model.onnx that lies beside this parser." << std::endl;
    return nullptr;
}

float clip(float value, unsigned int limit)
{
    return std::min(std::max(value, 0.0f), static_cast<float>(limit));
}

}  // namespace

extern "C" bool NvDsInferParseMaskrt(
    std::vector<NvDsInferLayerInfo> const& outputLayersInfo,
    NvDsInferNetworkInfo const& networkInfo,
    NvDsInferParseDetectionParams const& detectionParams,
    std::vector<NvDsInferInstanceMaskInfo>& objectList)
{
    const NvDsInferLayerInfo* boxes = find(outputLayersInfo, "boxes", FLOAT, 2);
    const NvDsInferLayerInfo* scores = find(outputLayersInfo, "scores", FLOAT, 1);
    const NvDsInferLayerInfo* labels = find(outputLayersInfo, "labels", INT32, 1);
    const NvDsInferLayerInfo* masks = find(outputLayersInfo, "masks", FLOAT, 3);
    const NvDsInferLayerInfo* count = find(outputLayersInfo, "count", INT32, 1);
    if (!boxes || !scores || !labels || !masks || !count) {
        return false;
    }
    const unsigned int slots = scores->inferDims.d[0];
    const unsigned int height = masks->inferDims.d[1], width = masks->inferDims.d[2];
    const size_t pixels = static_cast<size_t>(height) * width;
    const int found = std::max(0, *static_cast<const int*>(count->buffer));
    const float* box = static_cast<const float*>(boxes->buffer);
    const float* mask = static_cast<const float*>(masks->buffer);
    for (unsigned int i = 0; i < std::min<unsigned int>(found, slots); ++i, box += 4, mask += pixels) {
        const int label = static_cast<const int*>(labels->buffer)[i];
        const float score = static_cast<const float*>(scores->buffer)[i];
        if (label < 0 || static_cast<unsigned int>(label) >= detectionParams.numClassesConfigured ||
            score < detectionParams.perClassPreclusterThreshold[label]) {
            continue;
        }
        const float left = clip(box[0], networkInfo.width), top = clip(box[1], networkInfo.height);
        const float right = clip(box[2], networkInfo.width);
        const float bottom = clip(box[3], networkInfo.height);
        if (!(right > left) || !(bottom > top)) {  // so that not-a-number is left out, too
            continue;
        }
        NvDsInferInstanceMaskInfo object{};
        object.classId = static_cast<unsigned int>(label);
        object.left = left;
        object.top = top;
        object.width = right - left;
        object.height = bottom - top;
        object.detectionConfidence = score;
        object.mask_width = width;
        object.mask_height = height;
        object.mask_size = static_cast<unsigned int>(pixels * sizeof(float));
        object.mask = new float[pixels];
        std::memcpy(object.mask, mask, pixels * sizeof(float));
        objectList.push_back(object);
    }
    return true;
}

CHECK_CUSTOM_INSTANCE_MASK_PARSE_FUNC_PROTOTYPE(NvDsInferParseMaskrt);
