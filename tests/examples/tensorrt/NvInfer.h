// What the C++ example calls of TensorRT, by the signatures of its headers, with an engine that is played.
//
// A "plan" is text: the word `plan`, then for each tensor its name, type (0 float, 3 int32, 5 uint8), number of
// dimensions, dimensions, and the file that it is written to (`images`) or read from (the others).
#pragma once
#include "cuda_runtime_api.h"

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace nvinfer1 {

enum class DataType : std::int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4, kUINT8 = 5 };
enum class ExecutionContextAllocationStrategy : std::int32_t { kSTATIC = 0, kON_PROFILE_CHANGE = 1, kUSER_MANAGED = 2 };

struct Dims {
    std::int32_t nbDims;
    std::int64_t d[8];
};

class ILogger {
  public:
    enum class Severity : std::int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, const char *text) noexcept = 0;
    virtual ~ILogger() = default;
};

struct Declared {
    std::string name, file;
    DataType type;
    Dims dims;
    std::size_t bytes;
};

class IExecutionContext {
  public:
    explicit IExecutionContext(std::vector<Declared> tensors) : tensors_(std::move(tensors)) {}
    void setDeviceMemoryV2(void *memory, std::int64_t size) noexcept { given_ = memory && size >= 256; }
    bool setTensorAddress(const char *name, void *data) noexcept {
        addresses_[name] = data;
        return true;
    }
    bool enqueueV3(cudaStream_t stream) noexcept {
        if (!given_ || addresses_.size() != tensors_.size())
            return false;
        stream->push_back([this] {
            for (const Declared &one : tensors_) {
                char *address = static_cast<char *>(addresses_[one.name]);
                if (one.name == "images")
                    std::ofstream(one.file, std::ios::binary).write(address, static_cast<std::streamsize>(one.bytes));
                else
                    std::ifstream(one.file, std::ios::binary).read(address, static_cast<std::streamsize>(one.bytes));
            }
        });
        return true;
    }

  private:
    std::vector<Declared> tensors_;
    std::map<std::string, void *> addresses_;
    bool given_ = false;
};

class ICudaEngine {
  public:
    explicit ICudaEngine(std::vector<Declared> tensors) : tensors_(std::move(tensors)) {}
    IExecutionContext *createExecutionContext(
        ExecutionContextAllocationStrategy strategy = ExecutionContextAllocationStrategy::kSTATIC) noexcept {
        return strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED ? new IExecutionContext(tensors_) : nullptr;
    }
    std::int64_t getDeviceMemorySizeV2() const noexcept { return 0; }
    std::int32_t getNbIOTensors() const noexcept { return static_cast<std::int32_t>(tensors_.size()); }
    const char *getIOTensorName(std::int32_t index) const noexcept { return tensors_[static_cast<std::size_t>(index)].name.c_str(); }
    Dims getTensorShape(const char *name) const noexcept { return of(name).dims; }
    DataType getTensorDataType(const char *name) const noexcept { return of(name).type; }

  private:
    const Declared &of(const char *name) const {
        for (const Declared &one : tensors_)
            if (one.name == name)
                return one;
        return tensors_.front();
    }
    std::vector<Declared> tensors_;
};

class IRuntime {
  public:
    explicit IRuntime(ILogger &logger) : logger_(logger) {}
    ICudaEngine *deserializeCudaEngine(const void *blob, std::size_t size) noexcept {
        std::istringstream text(std::string(static_cast<const char *>(blob), size));
        std::string word;
        if (!(text >> word) || word != "plan") {
            logger_.log(ILogger::Severity::kERROR, "the plan's magic tag does not match");
            return nullptr;
        }
        std::vector<Declared> tensors;
        Declared one;
        int type;
        while (text >> one.name >> type >> one.dims.nbDims) {
            one.type = static_cast<DataType>(type);
            one.bytes = one.type == DataType::kUINT8 ? 1 : 4;
            for (int i = 0; i < one.dims.nbDims; ++i) {
                text >> one.dims.d[i];
                one.bytes *= static_cast<std::size_t>(one.dims.d[i]);
            }
            text >> one.file;
            tensors.push_back(one);
        }
        return new ICudaEngine(tensors);
    }

  private:
    ILogger &logger_;
};

inline IRuntime *createInferRuntime(ILogger &logger) noexcept { return new IRuntime(logger); }

}  // namespace nvinfer1
