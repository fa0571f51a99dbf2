// SoftNMS: one block a picture. Each round lowers the scores by the candidate that the round before
// took, and finds the best of them in the same pass, so a candidate is read once a round.
#include "common.cuh"

struct Best {
    float score;
    int index;
};

__device__ __forceinline__ Best better(Best a, Best b) {
    const bool second = b.score > a.score || (b.score == a.score && b.index < a.index);
    return second ? b : a;
}

__device__ __forceinline__ float factor_of(float iou) {
#if LINEAR
    return iou > IOU_THRESHOLD ? 1.0f - iou : 1.0f;
#else
    return iou == iou ? expf(-(iou * iou / SIGMA)) : 1.0f;
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) soft_nms(
    const float* __restrict__ boxes, const float* __restrict__ scores,
    const int* __restrict__ labels, int candidates, float* __restrict__ current,
    float* __restrict__ out_boxes, float* __restrict__ out_scores, int* __restrict__ out_labels,
    int* __restrict__ out_indices, int* __restrict__ count_out) {
    __shared__ Best of_warps[THREADS / 32];
    __shared__ Best of_block;
    const float none = __int_as_float(0xff800000);
    const int picture = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const long long first = (long long)picture * candidates;
    const long long out = (long long)picture * MAX_OUTPUTS;
    Box taken = {0.0f, 0.0f, 0.0f, 0.0f};
    int taken_label = 0, taken_index = -1, kept = 0;
    // A thread works on its own candidates alone, so their scores need no barrier.
    for (;;) {
        Best best = {none, candidates};
        for (int k = threadIdx.x; k < candidates; k += THREADS) {
            float score = taken_index < 0 ? scores[first + k] : current[first + k];
            const bool open = score > SCORE_THRESHOLD && k != taken_index;
            if (open && taken_index >= 0 && (CLASS_AGNOSTIC || labels[first + k] == taken_label))
                score = score * factor_of(overlap(taken, load_box(boxes, first + k)));
            const bool still = open && score > SCORE_THRESHOLD;
            current[first + k] = still ? score : SCORE_THRESHOLD;
            if (still) best = better(best, {score, k});
        }
        for (int step = 16; step; step >>= 1) {
            const Best other = {__shfl_xor_sync(FULL_WARP, best.score, step),
                                __shfl_xor_sync(FULL_WARP, best.index, step)};
            best = better(best, other);
        }
        if (lane == 0) of_warps[warp] = best;
        __syncthreads();
        if (warp == 0) {
            best = lane < THREADS / 32 ? of_warps[lane] : Best{none, candidates};
            for (int step = 16; step; step >>= 1) {
                const Best other = {__shfl_xor_sync(FULL_WARP, best.score, step),
                                    __shfl_xor_sync(FULL_WARP, best.index, step)};
                best = better(best, other);
            }
            if (lane == 0) of_block = best;
        }
        __syncthreads();
        best = of_block;
        if (best.index >= candidates) break;
        taken_index = best.index;
        taken = load_box(boxes, first + taken_index);
        taken_label = labels[first + taken_index];
        if (threadIdx.x == 0) {
            store_box(out_boxes, out + kept, taken);
            out_scores[out + kept] = best.score;
            out_labels[out + kept] = taken_label;
            out_indices[out + kept] = taken_index;
        }
        if (++kept == MAX_OUTPUTS) break;
    }
    if (threadIdx.x == 0) count_out[picture] = kept;
    for (int place = kept + threadIdx.x; place < MAX_OUTPUTS; place += THREADS) {
        store_box(out_boxes, out + place, {0.0f, 0.0f, 0.0f, 0.0f});
        out_scores[out + place] = 0.0f;
        out_labels[out + place] = 0;
        out_indices[out + place] = 0;
    }
}
