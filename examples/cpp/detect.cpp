// Runs an engine of a bundle without Python: a picture in, instances out.
//
//     maskrt build street.maskrt --target orin-nx --here        # on the device: engines/orin-nx/engine.trt
//     cmake -S examples/cpp -B build/cpp && cmake --build build/cpp
//     build/cpp/detect street.maskrt/engines/orin-nx/engine.trt street.ppm 0.5 124 116 104
//
// The numbers after the picture are the least score and the manifest's `input.pad_value`. The engine has to
// carry its kernels, as those of TensorRT-RTX and AOT plugins (TensorRT 10.9 and later) do; engines of
// `IPluginV3` plugins need Python. Its canvas is filled from the top left (`placing` absent in the
// manifest), and its masks lie over their boxes (`mask_frame` "box") and are pasted as torchvision does
// (`mask_paste`), which is what Mask R-CNN of torchvision has; box-only engines run as well. `magick
// street.jpg street.ppm` or `ffmpeg -i street.jpg street.ppm` makes the picture.
//
// A plan is machine code, and this program asks nobody who made it: run those alone that you built, or whose
// signature you verified (docs/trust.md).
//
// A line for each instance: label, score, box (x0 y0 x1 y1, pixels of the picture), pixels of its mask.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using Bytes = std::vector<std::uint8_t>;

// A picture or canvas: `height` x `width` pixels of red, green, blue.
struct Image {
    int height = 0, width = 0;
    Bytes pixels;
};

[[noreturn]] void fail(const std::string &what) { throw std::runtime_error(what); }

void check(cudaError_t status, const char *what) {
    if (status != cudaSuccess)
        fail(std::string(what) + ": " + cudaGetErrorString(status));
}

Bytes read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        fail(path + " cannot be read");
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

// A binary PPM (P6) of 8 bits.
Image read_ppm(const std::string &path) {
    const Bytes data = read_file(path);
    std::size_t at = 0;
    auto word = [&]() {
        while (at < data.size() && (std::isspace(data[at]) || data[at] == '#')) {
            if (data[at] == '#')
                while (at < data.size() && data[at] != '\n')
                    ++at;
            else
                ++at;
        }
        std::string found;
        while (at < data.size() && !std::isspace(data[at]))
            found += static_cast<char>(data[at++]);
        return found;
    };
    if (word() != "P6")
        fail(path + " is no binary PPM (P6)");
    Image image;
    image.width = std::atoi(word().c_str());
    image.height = std::atoi(word().c_str());
    const bool bytes = word() == "255";
    ++at;  // one white space before the pixels
    const auto size = static_cast<std::size_t>(3) * std::max(image.height, 0) * std::max(image.width, 0);
    if (!bytes || size == 0 || at > data.size() || data.size() - at < size)
        fail(path + " is damaged, or not of 8 bits");
    image.pixels.assign(data.begin() + at, data.begin() + at + size);
    return image;
}

// ---- letterbox ---------------------------------------------------------------------------------------
//
// Pillow's antialiased bilinear in fixed point of 22 bits: an output pixel is the mean of those around its
// centre, weighted by a triangle that widens as the picture shrinks. Across first, then down.

struct Weights {
    int first;
    std::vector<std::int32_t> of;
};

std::vector<Weights> weights_of(int from, int to) {
    const double scale = static_cast<double>(from) / to, support = std::max(scale, 1.0);
    std::vector<Weights> all;
    for (int out = 0; out < to; ++out) {
        const double centre = (out + 0.5) * scale;
        const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
        const int last = std::min(static_cast<int>(centre + support + 0.5), from);
        std::vector<double> shares;
        double total = 0;
        for (int in = first; in < last; ++in) {
            shares.push_back(std::max(0.0, 1.0 - std::abs((in - centre + 0.5) / support)));
            total += shares.back();
        }
        Weights one{first, {}};
        for (double share : shares)
            one.of.push_back(static_cast<std::int32_t>(0.5 + (total != 0 ? share / total : share) * (1 << 22)));
        all.push_back(std::move(one));
    }
    return all;
}

std::uint8_t rounded(std::int64_t sum) {
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>((sum + (1 << 21)) >> 22, 0, 255));
}

Image resized(const Image &image, int height, int width) {
    Image across{image.height, width, Bytes(static_cast<std::size_t>(3) * image.height * width)};
    if (width == image.width) {
        across.pixels = image.pixels;
    } else {
        const auto columns = weights_of(image.width, width);
        for (int y = 0; y < image.height; ++y)
            for (int x = 0; x < width; ++x)
                for (int c = 0; c < 3; ++c) {
                    std::int64_t sum = 0;
                    for (std::size_t k = 0; k < columns[x].of.size(); ++k)
                        sum += std::int64_t{columns[x].of[k]} *
                               image.pixels[3 * (std::size_t(y) * image.width + columns[x].first + k) + c];
                    across.pixels[3 * (std::size_t(y) * width + x) + c] = rounded(sum);
                }
    }
    if (height == image.height)
        return across;
    Image both{height, width, Bytes(static_cast<std::size_t>(3) * height * width)};
    const auto rows = weights_of(image.height, height);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < 3 * width; ++x) {
            std::int64_t sum = 0;
            for (std::size_t k = 0; k < rows[y].of.size(); ++k)
                sum += std::int64_t{rows[y].of[k]} *
                       across.pixels[(rows[y].first + k) * 3 * static_cast<std::size_t>(width) + x];
            both.pixels[std::size_t(y) * 3 * width + x] = rounded(sum);
        }
    return both;
}

// The picture at the top left of a canvas, as large as it fits; gives back its size there.
Image letterbox(const Image &image, int height, int width, const int filling[3], int &rows, int &columns) {
    const double scale = std::min(double(height) / image.height, double(width) / image.width);
    // nearbyint rounds halves to even, as Python does.
    rows = std::clamp(static_cast<int>(std::nearbyint(image.height * scale)), 1, height);
    columns = std::clamp(static_cast<int>(std::nearbyint(image.width * scale)), 1, width);
    const Image small = resized(image, rows, columns);
    Image canvas{height, width, Bytes(static_cast<std::size_t>(3) * height * width)};
    for (std::size_t i = 0; i < canvas.pixels.size(); ++i)
        canvas.pixels[i] = static_cast<std::uint8_t>(filling[i % 3]);
    for (int y = 0; y < rows; ++y)
        std::copy_n(small.pixels.begin() + std::size_t(3) * y * columns, 3 * columns,
                    canvas.pixels.begin() + std::size_t(3) * y * width);
    return canvas;
}

// ---- engine ------------------------------------------------------------------------------------------

class Log : public nvinfer1::ILogger {
    void log(Severity severity, const char *text) noexcept override {
        if (severity <= Severity::kWARNING)
            std::cerr << "TensorRT: " << text << "\n";
    }
};

struct Free {
    void operator()(void *address) const { cudaFree(address); }
};
using DeviceMemory = std::unique_ptr<void, Free>;

DeviceMemory device_memory(std::size_t bytes, const char *what) {
    void *address = nullptr;
    check(cudaMalloc(&address, std::max<std::size_t>(bytes, 1)), what);
    return DeviceMemory(address);
}

struct Destroy {
    using pointer = cudaStream_t;
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};

struct Tensor {
    std::vector<std::int64_t> shape;
    std::size_t bytes = 0;
    DeviceMemory device;
    Bytes host;

    template <typename T> const T *as() const { return reinterpret_cast<const T *>(host.data()); }
};

std::size_t size_of(nvinfer1::DataType type) {
    switch (type) {
    case nvinfer1::DataType::kFLOAT:
    case nvinfer1::DataType::kINT32:
        return 4;
    case nvinfer1::DataType::kUINT8:
        return 1;
    default:
        fail("the engine has a tensor of a type that no engine of maskrt has");
    }
}

// An engine of static shapes with all of its memory, for one thread.
class Engine {
  public:
    explicit Engine(const std::string &path) {
        const Bytes plan = read_file(path);
        runtime_.reset(nvinfer1::createInferRuntime(log_));
        if (!runtime_)
            fail("TensorRT finds no GPU, or no driver that is new enough");
        engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
        if (!engine_)
            fail(path + " is of another version of TensorRT or for another GPU: build it again here");
        // Given its memory, an engine of TensorRT-RTX runs in CUDA graphs; any other one as well.
        context_.reset(engine_->createExecutionContext(
            nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
        if (!context_)
            fail("there is too little memory for the engine");
        const std::int64_t needed = std::max<std::int64_t>(engine_->getDeviceMemorySizeV2(), 256);
        activations_ = device_memory(static_cast<std::size_t>(needed), "memory for activations");
        context_->setDeviceMemoryV2(activations_.get(), needed);
        cudaStream_t stream = nullptr;
        check(cudaStreamCreate(&stream), "a stream");
        stream_.reset(stream);
        for (int i = 0; i < engine_->getNbIOTensors(); ++i)
            bind(engine_->getIOTensorName(i));
        for (const char *name : {"images", "boxes", "scores", "labels", "count"})
            if (!tensors.count(name))
                fail(path + " is no engine of maskrt: it has no tensor \"" + name + "\"");
    }

    // Runs on the canvas in `tensors["images"].host`; the others' hosts have what came out.
    void run() {
        Tensor &images = tensors.at("images");
        check(cudaMemcpyAsync(images.device.get(), images.host.data(), images.bytes, cudaMemcpyHostToDevice,
                              stream_.get()),
              "the picture's way to the GPU");
        if (!context_->enqueueV3(stream_.get()))
            fail("TensorRT could not run the engine");
        for (auto &entry : tensors)
            if (entry.first != "images")
                check(cudaMemcpyAsync(entry.second.host.data(), entry.second.device.get(), entry.second.bytes,
                                      cudaMemcpyDeviceToHost, stream_.get()),
                      "the results' way from the GPU");
        check(cudaStreamSynchronize(stream_.get()), "running the engine");
    }

    std::map<std::string, Tensor> tensors;

  private:
    void bind(const char *name) {
        Tensor tensor;
        const nvinfer1::Dims dims = engine_->getTensorShape(name);
        std::size_t count = 1;
        for (int i = 0; i < dims.nbDims; ++i) {
            tensor.shape.push_back(dims.d[i]);
            count *= static_cast<std::size_t>(dims.d[i]);
        }
        tensor.bytes = count * size_of(engine_->getTensorDataType(name));
        tensor.host.resize(tensor.bytes);
        tensor.device = device_memory(tensor.bytes, "memory for a tensor");
        if (!context_->setTensorAddress(name, tensor.device.get()))
            fail(std::string("the engine takes no memory for ") + name);
        tensors[name] = std::move(tensor);
    }

    Log log_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;  // destroyed last, as it has to be
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    DeviceMemory activations_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy> stream_;
};

// ---- masks -------------------------------------------------------------------------------------------

// How many pixels of the picture a mask covers, pasted as torchvision does: a ring of one zero around its
// side x side probabilities, the box widened likewise and cut to whole pixels, resized bilinearly, and
// inside above a half. `box` is in pixels of the picture and may reach out of it.
std::int64_t mask_pixels(const float *mask, int side, const float box[4], int height, int width) {
    const int ringed = side + 2;
    std::vector<float> source(static_cast<std::size_t>(ringed) * ringed, 0.0f);
    for (int y = 0; y < side; ++y)
        std::copy_n(mask + y * side, side, source.begin() + (y + 1) * ringed + 1);
    const float widened = static_cast<float>(static_cast<double>(ringed) / side);
    long low[2], length[2];
    for (int axis = 0; axis < 2; ++axis) {
        const float half = (box[axis + 2] - box[axis]) * 0.5f * widened;
        const float centre = (box[axis + 2] + box[axis]) * 0.5f;
        low[axis] = static_cast<long>(centre - half);
        length[axis] = std::max(static_cast<long>(centre + half) - low[axis] + 1, 1L);
    }
    auto place = [&](long at, long extent, int &below, int &above, float &share) {
        const float scale = static_cast<float>(ringed) / static_cast<float>(extent);
        const float position = std::max((static_cast<float>(at) + 0.5f) * scale - 0.5f, 0.0f);
        below = std::min(static_cast<int>(position), ringed - 1);
        above = std::min(below + 1, ringed - 1);
        share = position - static_cast<float>(below);
    };
    std::int64_t inside = 0;
    for (long y = std::max(low[1], 0L); y < std::min(low[1] + length[1], long{height}); ++y) {
        int top, bottom;
        float down;
        place(y - low[1], length[1], top, bottom, down);
        for (long x = std::max(low[0], 0L); x < std::min(low[0] + length[0], long{width}); ++x) {
            int left, right;
            float across;
            place(x - low[0], length[0], left, right, across);
            const float upper = source[top * ringed + left] * (1 - across) + source[top * ringed + right] * across;
            const float lower =
                source[bottom * ringed + left] * (1 - across) + source[bottom * ringed + right] * across;
            inside += upper * (1 - down) + lower * down > 0.5f;
        }
    }
    return inside;
}

int run(int count, char **words) {
    if (count != 3 && count != 4 && count != 7) {
        std::cerr << "usage: detect ENGINE PICTURE.ppm [MIN_SCORE [RED GREEN BLUE]]\n";
        return 2;
    }
    const Image picture = read_ppm(words[2]);
    const float least = count > 3 ? std::strtof(words[3], nullptr) : 0.5f;
    int filling[3] = {124, 116, 104};
    for (int i = 0; i < 3 && count == 7; ++i)
        filling[i] = std::clamp(std::atoi(words[4 + i]), 0, 255);

    Engine engine(words[1]);
    Tensor &images = engine.tensors.at("images");
    const int height = static_cast<int>(images.shape[1]), width = static_cast<int>(images.shape[2]);
    int rows = 0, columns = 0;
    const Image canvas = letterbox(picture, height, width, filling, rows, columns);
    for (std::int64_t slot = 0; slot < images.shape[0]; ++slot)  // a batch is filled with the one picture
        std::copy(canvas.pixels.begin(), canvas.pixels.end(),
                  images.host.begin() + slot * static_cast<std::int64_t>(canvas.pixels.size()));
    engine.run();

    const auto *boxes = engine.tensors.at("boxes").as<float>();
    const auto *scores = engine.tensors.at("scores").as<float>();
    const auto *labels = engine.tensors.at("labels").as<std::int32_t>();
    const int found = engine.tensors.at("count").as<std::int32_t>()[0];  // of the first slot
    const auto masks = engine.tensors.find("masks");
    const double scale[2] = {double(picture.width) / columns, double(picture.height) / rows};
    const float limit[2] = {float(picture.width), float(picture.height)};
    for (int i = 0; i < found && scores[i] >= least; ++i) {
        float box[4], clipped[4];
        for (int k = 0; k < 4; ++k) {
            box[k] = static_cast<float>(boxes[4 * i + k] * scale[k % 2]);
            clipped[k] = std::clamp(box[k], 0.0f, limit[k % 2]);
        }
        if (clipped[2] <= clipped[0] || clipped[3] <= clipped[1])
            continue;  // on the filling alone
        std::printf("%d %.6f %.3f %.3f %.3f %.3f", labels[i], scores[i], clipped[0], clipped[1], clipped[2],
                    clipped[3]);
        if (masks != engine.tensors.end()) {
            const int side = static_cast<int>(masks->second.shape[3]);
            if (masks->second.shape[2] != side)
                fail("the engine's masks lie over the canvas, and this program pastes those over boxes");
            const float *mask = masks->second.as<float>() + static_cast<std::size_t>(i) * side * side;
            std::printf(" %lld",
                        static_cast<long long>(mask_pixels(mask, side, box, picture.height, picture.width)));
        }
        std::printf("\n");
    }
    return 0;
}

}  // namespace

int main(int count, char **words) {
    try {
        return run(count, words);
    } catch (const std::exception &error) {
        std::cerr << "detect: " << error.what() << "\n";
        return 1;
    }
}
