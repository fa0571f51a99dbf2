// MaskIoU on bits: a mask is read once and becomes 1/32 of its floats' size; a block then compares
// TILE x TILE masks, 128 pixels a step. The steps are dealt out to its warps, a warp compares all
// pairs of its steps, and the warps' counts are added in shared memory.
#include "common.cuh"

#define WARPS (THREADS / 32)
#define LOADS 16  // pixels that a thread of mask_bits has under way
#define STEPS 32  // of 128 pixels, that a block has in shared memory
#define ROWS 2    // pairs of a lane: ROWS x COLUMNS of the tile
#define COLUMNS 4
#if TILE * TILE != THREADS || TILE != 8 * ROWS || TILE != 4 * COLUMNS
#error "32 lanes cover a tile's pairs once, and its threads store one each"
#endif

// bits[m, w]: pixels 32 w to 32 w + 31 of mask m, the first one lowest; zeros beyond the last one.
// A warp packs 32 words, and lane k keeps the k-th.
extern "C" __global__ void __launch_bounds__(THREADS) mask_bits(
    const MASK* __restrict__ masks, int count, int pixels, int words, int* __restrict__ bits) {
    const int lane = threadIdx.x % 32, parts = ceil_div(words, 32);
    const int task = blockIdx.x * WARPS + threadIdx.x / 32;
    if (task >= count * parts) return;
    const int mask = task / parts, first = task % parts * 32;
    const MASK* const values = masks + (long long)mask * pixels;
    unsigned mine = 0;
    for (int start = 0; start < 32; start += LOADS) {
        float value[LOADS];
#pragma unroll
        for (int k = 0; k < LOADS; ++k) {
            const int pixel = (first + start + k) * 32 + lane;
            // Where there is no pixel, NaN: it is above no threshold.
            value[k] = pixel < pixels ? to_float(values[pixel]) : __int_as_float(0x7fc00000);
        }
#pragma unroll
        for (int k = 0; k < LOADS; ++k) {
            const unsigned word = __ballot_sync(FULL_WARP, value[k] > THRESHOLD);
            if (lane == start + k) mine = word;
        }
    }
    if (first + lane < words) bits[(long long)mask * words + first + lane] = (int)mine;
}

// A full adder in each of 32 columns: a + b + c = 2 * carry + sum. Given its truth table, each is
// one instruction; left to itself, the compiler makes half as many again of a pair's comparison.
#define SUM(a, b, c) ((a) ^ (b) ^ (c))
#define CARRY(a, b, c) (((a) & (b)) | ((a) & (c)) | ((b) & (c)))

#ifdef MASKRT_HOST
#define THREE_WORDS(result, function, a, b, c) result = function(a, b, c)
#else
#define THREE_WORDS(result, function, a, b, c)     \
    asm("lop3.b32 %0, %1, %2, %3, %4;"             \
        : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(function(0xf0, 0xcc, 0xaa)))
#endif

// Adds two words to `sum`, and returns the carries.
__device__ __forceinline__ unsigned add_words(unsigned& sum, unsigned a, unsigned b) {
    unsigned carry, left;
    THREE_WORDS(carry, CARRY, sum, a, b);
    THREE_WORDS(left, SUM, sum, a, b);
    sum = left;
    return carry;
}

// Counts the bits of words, with one population count for four of them, since that is the slowest
// instruction here (Harley and Seal): bits of `ones` count once, those of `twos` twice.
struct Counter {
    unsigned ones, twos;
    int fours;
};

__device__ __forceinline__ void add_common(Counter& counter, uint4 a, uint4 b) {
    const unsigned first = add_words(counter.ones, a.x & b.x, a.y & b.y);
    const unsigned second = add_words(counter.ones, a.z & b.z, a.w & b.w);
    counter.fours += __popc(add_words(counter.twos, first, second));
}

__device__ __forceinline__ int total(Counter counter) {
    return 4 * counter.fours + 2 * __popc(counter.twos) + __popc(counter.ones);
}

__device__ __forceinline__ int bits_of(uint4 a) {
    return __popc(a.x) + __popc(a.y) + __popc(a.z) + __popc(a.w);
}

__device__ __forceinline__ float ratio(int both, int one, int other) {
    return (float)both / (float)max(one + other - both, 1);
}

// Tiles above the diagonal are mirrored below it; those on it have the areas.
extern "C" __global__ void __launch_bounds__(THREADS) mask_iou(
    const int* __restrict__ bits, int count, int words, float* __restrict__ iou,
    float* __restrict__ area) {
    // A tile's masks: those of its rows, then those of its columns.
    __shared__ uint4 tile[2 * TILE][STEPS + 1];  // + 1: eight lanes read eight groups of banks
    __shared__ int common[TILE][TILE + 1], size[2 * TILE];
    if (blockIdx.y > blockIdx.x) return;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int top = blockIdx.y * TILE, left = blockIdx.x * TILE, steps = words / 4;
    const int i = threadIdx.x / TILE, j = threadIdx.x % TILE;
    const long long first = (long long)blockIdx.z * count;
    const uint4* const packed = reinterpret_cast<const uint4*>(bits) + first * steps;
    common[i][j] = 0;
    if (threadIdx.x < 2 * TILE) size[threadIdx.x] = 0;
    __syncthreads();
    Counter pairs[ROWS][COLUMNS] = {};
    int mine = 0;  // pixels of the tile's mask that has the lane's number
    for (int start = 0; start < steps; start += STEPS) {
        uint4 brought[2 * TILE / WARPS];
#pragma unroll
        for (int k = 0; k < 2 * TILE / WARPS; ++k) {
            const int m = warp + k * WARPS, mask = m < TILE ? top + m : left + m - TILE;
            const bool real = mask < count && start + lane < steps;
            brought[k] = make_uint4(0, 0, 0, 0);
            // An int holds the place of any mask of a picture that fits into memory.
            if (real) brought[k] = packed[mask * steps + start + lane];
        }
#pragma unroll
        for (int k = 0; k < 2 * TILE / WARPS; ++k) tile[warp + k * WARPS][lane] = brought[k];
        __syncthreads();
        for (int k = warp; k < min(STEPS, steps - start); k += WARPS) {
            mine += bits_of(tile[lane][k]);
            uint4 row[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) row[r] = tile[lane / 4 + 8 * r][k];
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) {
                const uint4 column = tile[TILE + lane % 4 + 4 * c][k];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) add_common(pairs[r][c], row[r], column);
            }
        }
        __syncthreads();
    }
    atomicAdd(&size[lane], mine);
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
            atomicAdd(&common[lane / 4 + 8 * r][lane % 4 + 4 * c], total(pairs[r][c]));
    __syncthreads();
    if (top + i < count && left + j < count)
        iou[(first + top + i) * count + left + j] = ratio(common[i][j], size[i], size[TILE + j]);
    if (blockIdx.y < blockIdx.x) {
        if (left + i < count && top + j < count)
            iou[(first + left + i) * count + top + j] =
                ratio(common[j][i], size[TILE + i], size[j]);
    } else if (threadIdx.x < TILE && top + (int)threadIdx.x < count) {
        area[first + top + threadIdx.x] = (float)size[threadIdx.x];
    }
}
