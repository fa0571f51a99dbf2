// MatrixNMS. A thread walks down a column of the IoU matrix, so the 32 threads of a warp read 32
// neighbours of a row; GROUPS warps share the 32 columns of a block.
#include "common.cuh"

__device__ __forceinline__ float falls(float x) {
    return LINEAR ? 1.0f - x : expf(-SIGMA * (x * x));
}

__device__ __forceinline__ float known(float x) { return x == x ? x : 0.0f; }

// Whether candidate i comes before the one with `score`, `label` and place j, and counts for it.
__device__ __forceinline__ bool counts(
    const float* scores, const int* labels, int i, float score, int label, int j) {
    const float other = scores[i];
    const bool before = other > score || (other == score && i < j);
    return before && (CLASS_AGNOSTIC || labels[i] == label);
}

extern "C" __global__ void __launch_bounds__(32 * GROUPS) matrix_compensate(
    const float* __restrict__ iou, const float* __restrict__ scores,
    const int* __restrict__ labels, int count, float* __restrict__ compensate) {
    __shared__ float parts[GROUPS][32];
    const int lane = threadIdx.x & 31, group = threadIdx.x >> 5, j = blockIdx.x * 32 + lane;
    const long long first = (long long)blockIdx.y * count;
    float worst = 0.0f;
    if (j < count) {
        const float score = scores[first + j];
        const int label = labels[first + j];
        for (int i = group; i < count; i += GROUPS)
            if (counts(scores + first, labels + first, i, score, label, j))
                worst = fmaxf(worst, known(iou[(first + i) * count + j]));
    }
    parts[group][lane] = worst;
    __syncthreads();
    if (group || j >= count) return;
    for (int g = 1; g < GROUPS; ++g) worst = fmaxf(worst, parts[g][lane]);
    compensate[first + j] = worst;
}

extern "C" __global__ void __launch_bounds__(32 * GROUPS) matrix_decay(
    const float* __restrict__ iou, const float* __restrict__ scores,
    const int* __restrict__ labels, const float* __restrict__ compensate, int count,
    float* __restrict__ decayed) {
    __shared__ float parts[GROUPS][32];
    const int lane = threadIdx.x & 31, group = threadIdx.x >> 5, j = blockIdx.x * 32 + lane;
    const long long first = (long long)blockIdx.y * count;
    float decay = 1.0f;
    if (j < count) {
        const float score = scores[first + j];
        const int label = labels[first + j];
        for (int i = group; i < count; i += GROUPS) {
            if (!counts(scores + first, labels + first, i, score, label, j)) continue;
            const float least = falls(compensate[first + i]);
            if (least != 0.0f)
                decay = fminf(decay, falls(known(iou[(first + i) * count + j])) / least);
        }
    }
    parts[group][lane] = decay;
    __syncthreads();
    if (group || j >= count) return;
    for (int g = 1; g < GROUPS; ++g) decay = fminf(decay, parts[g][lane]);
    decayed[first + j] = scores[first + j] * decay;
}
