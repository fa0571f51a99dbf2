// MatrixNMS. A block takes COLUMNS candidates, and its threads walk down their columns of the IoU
// matrix, each through every ROWS-th row. An IoU is read only where its row's candidate comes before
// and has the label: half of them at most, and few where there are many labels.
#include "common.cuh"

#define ROWS (THREADS / COLUMNS)

struct Candidate {
    int index, label;
    float score;
};

__device__ __forceinline__ Candidate load_candidate(
    const float* scores, const int* labels, int index) {
    return {index, CLASS_AGNOSTIC ? 0 : labels[index], scores[index]};
}

__device__ __forceinline__ bool comes_before(Candidate one, Candidate other) {
    const bool tied = one.score == other.score && one.index < other.index;
    return (one.score > other.score || tied) && one.label == other.label;
}

// 0 for NaN
__device__ __forceinline__ float cut(float iou) { return fminf(fmaxf(iou, 0.0f), 1.0f); }

// The greatest value in a column of parts, for threads 0 to COLUMNS - 1.
__device__ __forceinline__ float greatest(float mine, float (*parts)[COLUMNS]) {
    for (int lanes = 16; lanes >= COLUMNS; lanes >>= 1)
        mine = fmaxf(mine, __shfl_xor_sync(FULL_WARP, mine, lanes));
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane < COLUMNS) parts[warp][lane] = mine;
    __syncthreads();
    if (threadIdx.x < COLUMNS)
        for (int w = 1; w < THREADS / 32; ++w) mine = fmaxf(mine, parts[w][threadIdx.x]);
    return mine;
}

extern "C" __global__ void __launch_bounds__(THREADS) matrix_compensate(
    const float* __restrict__ iou, const float* __restrict__ scores,
    const int* __restrict__ labels, int count, float* __restrict__ compensate) {
    __shared__ float parts[THREADS / 32][COLUMNS];
    const int j = blockIdx.x * COLUMNS + threadIdx.x % COLUMNS;
    const long long first = (long long)blockIdx.y * count;
    const float* const column = iou + first * count + j;
    float most = 0.0f;
    if (j < count) {
        const Candidate mine = load_candidate(scores + first, labels + first, j);
#pragma unroll 4
        for (int i = threadIdx.x / COLUMNS; i < count; i += ROWS) {
            const Candidate better = load_candidate(scores + first, labels + first, i);
            if (comes_before(better, mine)) most = fmaxf(most, cut(column[(long long)i * count]));
        }
    }
    most = greatest(most, parts);
    if (threadIdx.x < COLUMNS && j < count) compensate[first + j] = most;
}

// Of 1 - decay (linear) or of -log(decay) / sigma (gaussian): the greatest is that of the least.
