// CUDA's words for a C++ compiler: kernels run on the CPU, block after block, each thread of a block
// a fiber of its own. Barriers and warp primitives switch fibers, so a kernel sees what it sees on a
// device: every thread has its own stack, all of a block are alive at once.
//
// What it looks for: a barrier that some threads of a block do not reach, warp primitives whose mask
// names a thread that does not take part, misaligned vector access. Shared memory is filled with a
// chosen pattern before each block, and blocks and threads can run in either direction, so whoever
// depends on either gives two different results. Built with -fsanitize=thread, fibers are threads to
// the sanitizer, ordered by barriers alone.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__ static
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#ifdef MASKRT_PLAIN_SHARED  // the address sanitizer guards only variables in ordinary sections
#define __shared__ static
#else
#define __shared__ static __attribute__((section("maskrt_shared")))
#endif

struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct uchar4 { unsigned char x, y, z, w; };
struct int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct Index3 { unsigned x, y, z; };

static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
    return {x, y, z, w};
}

namespace host {
Index3 thread_index();
Index3 block_index();
Index3 block_size();
Index3 grid_size();
void barrier();
void warp_barrier(unsigned mask);
unsigned lane();
void put(unsigned long long value);          // for the other lanes of the running thread's warp
unsigned long long take(unsigned from_lane);  // what that lane put
void fail(const char* what);
}  // namespace host

#define threadIdx (host::thread_index())
#define blockIdx (host::block_index())
#define blockDim (host::block_size())
#define gridDim (host::grid_size())
#define __syncthreads() host::barrier()
#define __syncwarp(...) host::warp_barrier(0xffffffffu)
#define __threadfence()
#define __threadfence_block()
#define warpSize 32

// IEEE half, rounded to nearest by a conversion. g++ before 13 knows _Float16 on x86 alone, and on ARM
// has __fp16, which is the same in memory.
#if defined(__aarch64__)
typedef __fp16 half_in_memory;
#else
typedef _Float16 half_in_memory;
#endif
struct half_t { half_in_memory value; };
static inline float to_float(half_t value) { return (float)value.value; }
static inline void store(half_t* place, float value) { place->value = (half_in_memory)value; }

template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }
template <class T> static inline T __ldg(const T* place) { return *place; }

static inline int __popc(unsigned value) { return __builtin_popcount(value); }
static inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
static inline int __ffs(int value) { return __builtin_ffs(value); }
static inline int __clz(int value) { return value ? __builtin_clz((unsigned)value) : 32; }
static inline float __saturatef(float value) { return fminf(fmaxf(value, 0.0f), 1.0f); }
template <class To, class From> static inline To bits_of(From value) {
    To result;
    static_assert(sizeof result == sizeof value, "sizes differ");
    memcpy(&result, &value, sizeof result);
    return result;
}
static inline int __float_as_int(float value) { return bits_of<int>(value); }
static inline unsigned __float_as_uint(float value) { return bits_of<unsigned>(value); }
static inline float __int_as_float(int value) { return bits_of<float>(value); }
static inline float __uint_as_float(unsigned value) { return bits_of<float>(value); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline int __float2int_rn(float value) { return (int)rintf(value); }
static inline int __float2int_rd(float value) { return (int)floorf(value); }
static inline int __double2int_rn(double value) { return (int)rint(value); }

#define ATOMIC(name, T, expression)                                                       \
    static inline T name(T* place, T value) {                                             \
        T old = __atomic_load_n(place, __ATOMIC_RELAXED), next;                           \
        do next = (expression);                                                           \
        while (!__atomic_compare_exchange_n(place, &old, next, false, __ATOMIC_RELAXED,   \
                                            __ATOMIC_RELAXED));                           \
        return old;                                                                       \
    }
ATOMIC(atomicAdd, int, old + value)
ATOMIC(atomicAdd, unsigned, old + value)
ATOMIC(atomicMax, int, old < value ? value : old)
ATOMIC(atomicMin, int, value < old ? value : old)
ATOMIC(atomicMax, unsigned, old < value ? value : old)
ATOMIC(atomicMin, unsigned, value < old ? value : old)
ATOMIC(atomicOr, int, old | value)
ATOMIC(atomicOr, unsigned, old | value)
ATOMIC(atomicAnd, unsigned, old & value)
ATOMIC(atomicExch, int, value)
#undef ATOMIC

// Warp primitives: everyone puts a value, all meet, everyone takes, all meet again.
template <class T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    const unsigned from = (host::lane() & ~(unsigned)(width - 1)) | ((unsigned)source & (width - 1));
    if (!(mask >> from & 1)) host::fail("a shuffle reads a lane outside its mask");
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    host::put(bits);
    host::warp_barrier(mask);
    bits = host::take(from);
    host::warp_barrier(mask);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int = 32) {
    return __shfl_sync(mask, value, (int)(host::lane() ^ (unsigned)bits));
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, int delta, int = 32) {
    const int from = (int)host::lane() + delta;
    return __shfl_sync(mask, value, from > 31 ? (int)host::lane() : from);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, int delta, int = 32) {
    const int from = (int)host::lane() - delta;
    return __shfl_sync(mask, value, from < 0 ? (int)host::lane() : from);
}
static inline unsigned __ballot_sync(unsigned mask, int vote) {
    host::put(vote != 0);
    host::warp_barrier(mask);
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) votes |= (unsigned)host::take(lane) << lane;
    host::warp_barrier(mask);
    return votes;
}
static inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
static inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) == mask; }
static inline unsigned __activemask() {
    host::fail("__activemask is no promise of who takes part: pass masks down");
    return 0;
}
