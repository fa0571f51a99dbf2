// MaskIoU on bits: a mask of floats is read once and becomes 1/32 of its size, and a pair of masks is
// compared 32 pixels an instruction.
#include "common.cuh"

// bits[b, n, w]: pixels 32 w to 32 w + 31 of a mask, first pixel lowest.
extern "C" __global__ void __launch_bounds__(THREADS) mask_bits(
    const MASK* __restrict__ masks, int pixels, int count, int* __restrict__ bits) {
    const int mask = blockIdx.y, lane = threadIdx.x & 31, words = ceil_div(pixels, 32);
    if (mask >= count) return;
    const long long place = (long long)blockIdx.z * count + mask;
    const MASK* const values = masks + place * pixels;
    const int last = min((int)(blockIdx.x + 1) * WORDS_A_BLOCK, words);
    for (int w = blockIdx.x * WORDS_A_BLOCK + (threadIdx.x >> 5); w < last; w += THREADS / 32) {
        const int pixel = w * 32 + lane;
        const bool inside = pixel < pixels && to_float(values[pixel]) > THRESHOLD;
        const unsigned word = __ballot_sync(FULL_WARP, inside);
        if (lane == 0) bits[place * words + w] = (int)word;
    }
}

// One warp a mask.
extern "C" __global__ void __launch_bounds__(THREADS) mask_area(
    const int* __restrict__ bits, int pixels, int count, float* __restrict__ area) {
    const int mask = blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (mask >= count) return;
    const long long place = (long long)blockIdx.y * count + mask;
    const int words = ceil_div(pixels, 32);
    int total = 0;
    for (int w = lane; w < words; w += 32) total += __popc((unsigned)bits[place * words + w]);
    for (int step = 16; step; step >>= 1) total += __shfl_xor_sync(FULL_WARP, total, step);
    if (lane == 0) area[place] = (float)total;
}

// One thread a pair, a tile of pairs a block; the tiles below the diagonal mirror those above.
extern "C" __global__ void __launch_bounds__(TILE * TILE) mask_iou(
    const int* __restrict__ bits, const float* __restrict__ area, int pixels, int count,
    float* __restrict__ iou) {
    __shared__ int rows[TILE][33], columns[TILE][33];  // 33: threads of a warp on other banks
    if (blockIdx.y > blockIdx.x) return;
    const int top = blockIdx.y * TILE, left = blockIdx.x * TILE, words = ceil_div(pixels, 32);
    const long long first = (long long)blockIdx.z * count;
    const int i = threadIdx.x / TILE, j = threadIdx.x % TILE;
    int shared = 0;
    for (int start = 0; start < words; start += 32) {
        for (int k = threadIdx.x; k < TILE * 32; k += TILE * TILE) {
            const int mask = k / 32, w = start + k % 32;
            const bool row = top + mask < count && w < words;
            const bool column = left + mask < count && w < words;
            rows[mask][k % 32] = row ? bits[(first + top + mask) * words + w] : 0;
            columns[mask][k % 32] = column ? bits[(first + left + mask) * words + w] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int w = 0; w < 32; ++w) shared += __popc((unsigned)(rows[i][w] & columns[j][w]));
        __syncthreads();
    }
    const int row = top + i, column = left + j;
    if (row >= count || column >= count) return;
    const float both = (float)shared;
    const float all = area[first + row] + area[first + column] - both;
    const float ratio = all > 0.0f ? both / all : 0.0f;
    iou[(first + row) * count + column] = ratio;
    if (blockIdx.y < blockIdx.x) iou[(first + column) * count + row] = ratio;
}
