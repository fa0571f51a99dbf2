// What every kernel shares: element types, and arithmetic that is the same on the device and on the
// host. Kernels are compiled without contraction of multiplications and additions, so that a
// comparison decides on the device as it does in the reference.
#pragma once

#ifdef MASKRT_HOST
#include "shim.h"
#else

// A half without cuda_fp16.h: NVRTC then needs no include path on any device.
struct half_t {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(half_t value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

__device__ __forceinline__ void store(half_t* place, float value) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(place->bits) : "f"(value));
}

#endif

#define FULL_WARP 0xffffffffu

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(signed char value) { return value; }
__device__ __forceinline__ float to_float(unsigned char value) { return value; }
__device__ __forceinline__ void store(float* place, float value) { *place = value; }

__device__ __forceinline__ int ceil_div(int numerator, int denominator) {
    return (numerator + denominator - 1) / denominator;
}

struct Box {
    float x0, y0, x1, y1;
};

__device__ __forceinline__ Box load_box(const float* boxes, long long index) {
    // Boxes of a tensor [.., 4] lie on 16 bytes: TensorRT and PyTorch align allocations to more.
    const float4 corners = reinterpret_cast<const float4*>(boxes)[index];
    return {corners.x, corners.y, corners.z, corners.w};
}

__device__ __forceinline__ void store_box(float* boxes, long long index, Box box) {
    reinterpret_cast<float4*>(boxes)[index] = make_float4(box.x0, box.y0, box.x1, box.y1);
}

__device__ __forceinline__ float area(Box box) { return (box.x1 - box.x0) * (box.y1 - box.y0); }

// NaN where the union is empty or a corner is no number: no comparison with it holds.
__device__ __forceinline__ float overlap(Box a, Box b) {
    const float width = fmaxf(fminf(a.x1, b.x1) - fmaxf(a.x0, b.x0), 0.0f);
    const float height = fmaxf(fminf(a.y1, b.y1) - fmaxf(a.y0, b.y0), 0.0f);
    const float shared = width * height;
    return shared / (area(a) + area(b) - shared);
}
