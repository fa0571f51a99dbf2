// MatrixNMS. A block takes COLUMNS candidates, and its threads walk down their columns of the IoU
// matrix, each through every ROWS-th row. An IoU is read only where the row's candidate comes
// before and has the label: half of them at most, and few where there are many labels. Others count
// as 0, whose term, 1 / f(compensate), is at least 1 and so is never the least.
#include "common.cuh"

#define ROWS (THREADS / COLUMNS)
#define LOADS 4  // rows that a thread has under way
#if 32 % COLUMNS != 0 || THREADS % 32 != 0
#error "a warp takes whole rows of a block"
#endif

// The candidate whose column a thread walks down, and how.
struct Column {
    const float *iou, *scores;
    const int* labels;
    int count, index, label;
    float score;
};

__device__ __forceinline__ Column column_of(
    const float* iou, const float* scores, const int* labels, int count) {
    const long long first = (long long)blockIdx.y * count;
    const int place = blockIdx.x * COLUMNS + threadIdx.x % COLUMNS;
    const int index = min(place, count - 1);
    return {iou + first * count + index, scores + first, labels + first, count, index,
            labels[first + index], scores[first + index]};
}

// IoUs with candidates row, row + ROWS, …, cut to 0 to 1: of those that come before and have the
// label; 0 for the others. Loads that wait for nothing stand together, so that all are under way.
__device__ __forceinline__ void load_overlaps(
    const Column& column, int row, float (&overlap)[LOADS]) {
    float score[LOADS];
    int label[LOADS];
#pragma unroll
    for (int k = 0; k < LOADS; ++k) {
        const int i = min(row + k * ROWS, column.count - 1);
        score[k] = column.scores[i];
        label[k] = CLASS_AGNOSTIC ? column.label : column.labels[i];
    }
#pragma unroll
    for (int k = 0; k < LOADS; ++k) {
        const int i = row + k * ROWS;
        const bool tied = (score[k] == column.score) & (i < column.index);
        const bool before = (i < column.count) & ((score[k] > column.score) | tied);
        overlap[k] = 0.0f;
        if (before & (label[k] == column.label))
            overlap[k] = column.iou[(long long)i * column.count];
    }
#pragma unroll
    for (int k = 0; k < LOADS; ++k) overlap[k] = fminf(fmaxf(overlap[k], 0.0f), 1.0f);  // NaN: 0
}

// The greatest of what the threads of a column have, for threads 0 to COLUMNS - 1.
__device__ __forceinline__ float greatest(float mine, float (*parts)[COLUMNS]) {
#pragma unroll
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
    if (count == 0) return;
    const Column column = column_of(iou, scores, labels, count);
    float most = 0.0f;
    for (int row = threadIdx.x / COLUMNS; row < count; row += ROWS * LOADS) {
        float overlap[LOADS];
        load_overlaps(column, row, overlap);
#pragma unroll
        for (int k = 0; k < LOADS; ++k) most = fmaxf(most, overlap[k]);
    }
    most = greatest(most, parts);
    const int j = blockIdx.x * COLUMNS + threadIdx.x;
    if (threadIdx.x < COLUMNS && j < count) compensate[(long long)blockIdx.y * count + j] = most;
}

// What grows as the term of a candidate falls: the least term is that of the greatest loss.
__device__ __forceinline__ float loss(float overlap, float compensate) {
    if (!LINEAR) return overlap * overlap - compensate * compensate;
    return compensate < 1.0f ? -((1.0f - overlap) / (1.0f - compensate)) : -1.0f;
}

__device__ __forceinline__ float term_of(float loss) {
    return LINEAR ? -loss : expf(-SIGMA * loss);
}

extern "C" __global__ void __launch_bounds__(THREADS) matrix_decay(
    const float* __restrict__ iou, const float* __restrict__ scores,
    const int* __restrict__ labels, const float* __restrict__ compensate, int count,
    float* __restrict__ decayed) {
    __shared__ float parts[THREADS / 32][COLUMNS];
    if (count == 0) return;
    const Column column = column_of(iou, scores, labels, count);
    const long long first = (long long)blockIdx.y * count;
    float most = LINEAR ? -1.0f : 0.0f;  // of a term of 1
    for (int row = threadIdx.x / COLUMNS; row < count; row += ROWS * LOADS) {
        float overlap[LOADS], theirs[LOADS];
#pragma unroll
        for (int k = 0; k < LOADS; ++k)
            theirs[k] = compensate[first + min(row + k * ROWS, count - 1)];
        load_overlaps(column, row, overlap);
#pragma unroll
        for (int k = 0; k < LOADS; ++k)
            if (overlap[k] > 0.0f) most = fmaxf(most, loss(overlap[k], theirs[k]));
    }
    most = greatest(most, parts);
    const int j = blockIdx.x * COLUMNS + threadIdx.x;
    if (threadIdx.x < COLUMNS && j < count) decayed[first + j] = column.score * term_of(most);
}
