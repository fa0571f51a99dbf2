// BatchedNMS. Sorting by counting is stable and has no limit that shared memory sets; the greedy
// order is then resolved 32 candidates at a time, on bits, so it is exact for any chain.
#include "common.cuh"

// order[b, r] = the candidate that r valid ones come before; valid[b] = how many are valid.
// Candidate j comes before i if its score is higher, or equal and j < i.
extern "C" __global__ void __launch_bounds__(THREADS) nms_rank(
    const float* __restrict__ scores, int candidates, int* __restrict__ order,
    int* __restrict__ valid) {
    __shared__ float tile[THREADS];
    const int mine = blockIdx.x * THREADS + threadIdx.x;
    const float* row = scores + (long long)blockIdx.y * candidates;
    const float score = mine < candidates ? row[mine] : SCORE_THRESHOLD;
    int before = 0, all = 0;
    for (int start = 0; start < candidates; start += THREADS) {
        const int theirs = start + threadIdx.x;
        // A threshold in place of a score is no candidate, as the comparison is strict.
        tile[threadIdx.x] = theirs < candidates ? row[theirs] : SCORE_THRESHOLD;
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < THREADS; ++k) {
            const float other = tile[k];
            const bool real = other > SCORE_THRESHOLD;
            const bool earlier = other > score || (other == score && start + k < mine);
            all += real;
            before += real && earlier;
        }
        __syncthreads();
    }
    if (mine < candidates && score > SCORE_THRESHOLD)
        order[(long long)blockIdx.y * candidates + before] = mine;
    if (mine == 0) valid[blockIdx.y] = all;
}

// Bit k of bits[b, i, w]: the candidate of rank 32 w + k comes after that of rank i, has its label
// and overlaps it. Words that hold no later candidate are left unwritten, and never read.
extern "C" __global__ void __launch_bounds__(TILE_ROWS * TILE_WORDS) nms_overlap(
    const float* __restrict__ boxes, const int* __restrict__ labels, const int* __restrict__ order,
    const int* __restrict__ valid, int candidates, int* __restrict__ bits) {
    __shared__ Box columns[TILE_WORDS * 32];
    __shared__ int column_labels[TILE_WORDS * 32];
    const long long first = (long long)blockIdx.z * candidates;
    const int count = valid[blockIdx.z];
    const int top = blockIdx.y * TILE_ROWS, left = blockIdx.x * TILE_WORDS * 32;
    if (top >= count || left >= count || left + TILE_WORDS * 32 <= top) return;
    for (int k = threadIdx.x; k < TILE_WORDS * 32 && left + k < count; k += blockDim.x) {
        const long long place = first + order[first + left + k];
        columns[k] = load_box(boxes, place);
        column_labels[k] = labels[place];
    }
    __syncthreads();
    const int word = threadIdx.x % TILE_WORDS, row = top + threadIdx.x / TILE_WORDS;
    const int start = left + word * 32;
    if (row >= count || start >= count || start + 31 < row) return;
    const long long place = first + order[first + row];
    const Box box = load_box(boxes, place);
    const int label = labels[place];
    unsigned found = 0;
    for (int step = 0; step < 32; ++step) {
        const int k = (step + word) & 31;  // lanes of a warp read different banks
        const int other = start + k;
        if (other <= row || other >= count) continue;
        const bool same = CLASS_AGNOSTIC || column_labels[word * 32 + k] == label;
        if (same && overlap(box, columns[word * 32 + k]) > IOU_THRESHOLD) found |= 1u << k;
    }
    const int words = ceil_div(candidates, 32);
    bits[(first + row) * words + left / 32 + word] = (int)found;
}

// One block a picture. 32 ranks at a time: the first warp resolves which of them stay, then all
// threads strike out what those suppress among the later ones.
extern "C" __global__ void __launch_bounds__(THREADS) nms_select(
    const float* __restrict__ boxes, const float* __restrict__ scores,
    const int* __restrict__ labels, const int* __restrict__ order, const int* __restrict__ valid,
    const int* __restrict__ bits, int candidates, float* __restrict__ out_boxes,
    float* __restrict__ out_scores, int* __restrict__ out_labels, int* __restrict__ out_indices,
    int* __restrict__ count_out) {
    __shared__ unsigned removed[MAX_WORDS];
    __shared__ unsigned staying;
    const int picture = blockIdx.x, lane = threadIdx.x;
    const int count = valid[picture], words = ceil_div(candidates, 32);
    const long long first = (long long)picture * candidates;
    const long long out = (long long)picture * MAX_OUTPUTS;
    for (int w = threadIdx.x; w < words; w += THREADS) removed[w] = 0;
    __syncthreads();
    int kept = 0;
    for (int w = 0; w * 32 < count && kept < MAX_OUTPUTS; ++w) {
        if (threadIdx.x < 32) {
            const int rank = w * 32 + lane;
            const bool real = rank < count;
            const unsigned mine = real ? (unsigned)bits[(first + rank) * words + w] : 0;
            unsigned alive = __ballot_sync(FULL_WARP, real) & ~removed[w];
            for (unsigned left = alive; left;) {
                const int next = __ffs((int)left) - 1;
                alive &= ~__shfl_sync(FULL_WARP, mine, next);
                left = alive & (next == 31 ? 0u : FULL_WARP << (next + 1));
            }
            const int place = kept + __popc(alive & ((1u << lane) - 1));
            if ((alive >> lane & 1) && place < MAX_OUTPUTS) {
                const int index = order[first + rank];
                store_box(out_boxes, out + place, load_box(boxes, first + index));
                out_scores[out + place] = scores[first + index];
                out_labels[out + place] = labels[first + index];
                out_indices[out + place] = index;
            }
            if (lane == 0) staying = alive;
        }
        __syncthreads();
        const unsigned alive = staying;
        kept += __popc(alive);
        for (int later = w + 1 + threadIdx.x; later * 32 < count; later += THREADS) {
            unsigned struck = removed[later];
            for (unsigned left = alive; left; left &= left - 1) {
                const int rank = w * 32 + __ffs((int)left) - 1;
                struck |= (unsigned)bits[(first + rank) * words + later];
            }
            removed[later] = struck;
        }
        __syncthreads();
    }
    kept = min(kept, MAX_OUTPUTS);
    if (threadIdx.x == 0) count_out[picture] = kept;
    for (int place = kept + threadIdx.x; place < MAX_OUTPUTS; place += THREADS) {
        store_box(out_boxes, out + place, {0.0f, 0.0f, 0.0f, 0.0f});
        out_scores[out + place] = 0.0f;
        out_labels[out + place] = 0;
        out_indices[out + place] = 0;
    }
}
