// PasteMasks: a block makes ROWS x THREADS pixels of one mask, a thread one column of them. It
// walks down the rows, keeps what lies across its column in the two source rows that it is between,
// and votes with its warp: the votes on a row are a packed word. Where a tile misses the box,
// nothing is read but the box, and zeros are stored. TRUNCATES is torchvision's paste, else it is
// detectron2's: they differ in where a pixel lies on the mask, and in nothing else.
#include "common.cuh"

#define SIDE (M + 2)
#define WORDS (THREADS / 32)
#if ROWS != 32 || THREADS % 32 != 0
#error "a lane of each warp owns the word of one row"
#endif

// No pixel of the picture but start to stop - 1 sees the mask. Pixel p lies at
// (p - first + 1/2) * scale, or at (p + 1/2 - low) / extent of the box.
struct Axis {
    int first, start, stop;
    float scale, low, extent;
};

struct Sample {
    int low, high;
    float low_weight, high_weight;
};

#if TRUNCATES
__device__ __forceinline__ Axis axis_of(float low, float high, int size) {
    const float half = (high - low) * 0.5f * WIDENING, centre = (high + low) * 0.5f;
    const float first = centre - half, last = centre + half;
    if (!(fabsf(first) < FARTHEST && fabsf(last) < FARTHEST)) return {};
    const int from = (int)first, to = (int)last;
    const float scale = (float)SIDE / (float)max(to - from + 1, 1);
    return {from, max(from, 0), min(to + 1, size), scale, 0.0f, 0.0f};
}

__device__ __forceinline__ Sample sample_at(Axis axis, int pixel) {
    if (pixel < axis.start || pixel >= axis.stop) return {0, 0, 0.0f, 0.0f};
    const float at = ((float)(pixel - axis.first) + 0.5f) * axis.scale - 0.5f;
    const float inside = fmaxf(at, 0.0f);
    const int low = min((int)inside, SIDE - 1);
    const float weight = inside - (float)low;
    return {low, min(low + 1, SIDE - 1), 1.0f - weight, weight};
}
#else
__device__ __forceinline__ Axis axis_of(float low, float high, int size) {
    const float extent = high - low, half = extent * (0.5f / M);
    if (!(fabsf(low) < FARTHEST && fabsf(high) < FARTHEST && extent > 0.0f)) return {};
    // Half a cell of the mask is seen beside the box; the rest is for the rounding of huge boxes.
    const int from = (int)(low - half) - 8, to = (int)(high + half) + 8;
    return {0, max(from, 0), min(to + 1, size), 0.0f, low, extent};
}

__device__ __forceinline__ Sample sample_at(Axis axis, int pixel) {
    if (pixel < axis.start || pixel >= axis.stop) return {0, 1, 0.0f, 0.0f};
    // Beside the mask: {0, 1}, as every row 0 has it, since the walk keeps what it read of a row.
    const float grid = ((float)pixel + 0.5f - axis.low) / axis.extent * 2.0f - 1.0f;
    const float at = (grid + 1.0f) * (0.5f * M) - 0.5f;
    if (!(at > -1.0f && at < (float)M)) return {0, 1, 0.0f, 0.0f};
    const float below = floorf(at), weight = at - below;
    const int low = (int)below + 1;  // in the ring
    return {low, low + 1, 1.0f - weight, weight};
}
#endif

// Row r of the mask in its ring, at a column's two sources.
__device__ __forceinline__ float across(const float* source, int row, Sample column) {
    const float* values = source + row * SIDE;
    return values[column.low] * column.low_weight + values[column.high] * column.high_weight;
}

#if PACKED
#define PIXELS int

// Words of a tile, a thread each: 8 threads store a row.
__device__ __forceinline__ void store_tile(const unsigned (*words)[WORDS + 1], int* masks,
                                           long long mask, int top, int left, int height,
                                           int width) {
    const int row = threadIdx.x / WORDS, word = threadIdx.x % WORDS;
    const int columns = ceil_div(width, 32), column = left / 32 + word;
    if (top + row < height && column < columns)
        masks[(mask * height + top + row) * columns + column] = (int)words[row][word];
}
#else
#define PIXELS unsigned char
#define GROUPS (THREADS / 16 + 1)  // of 16 bytes, that a row of a tile can touch

// Bits 0 to 3, each in a byte of its own.
__device__ __forceinline__ unsigned bytes_of(unsigned bits) {
    return (bits & 15u) * 0x00204081u & 0x01010101u;
}

// Aligned groups of 16 bytes, a thread each, whatever the width; the ends of a row go byte by byte.
__device__ __forceinline__ void store_tile(const unsigned (*words)[WORDS + 1], unsigned char* masks,
                                           long long mask, int top, int left, int height,
                                           int width) {
    const int pixels = min(THREADS, width - left);
    for (int task = threadIdx.x; task < ROWS * GROUPS; task += THREADS) {
        const int row = task / GROUPS, group = task % GROUPS;
        if (top + row >= height) return;
        const long long place = (mask * height + top + row) * width + left;
        const int start = group * 16 - (int)((unsigned long long)(masks + place) & 15);
        if (start >= 0 && start + 16 <= pixels) {
            const int word = start / 32, shift = start % 32;
            unsigned bits = words[row][word] >> shift;
            if (shift > 16) bits |= words[row][word + 1] << (32 - shift);
            *reinterpret_cast<uint4*>(masks + place + start) = make_uint4(
                bytes_of(bits), bytes_of(bits >> 4), bytes_of(bits >> 8), bytes_of(bits >> 12));
        } else {
            for (int x = max(start, 0); x < min(start + 16, pixels); ++x)
                masks[place + x] = (unsigned char)(words[row][x / 32] >> (x % 32) & 1u);
        }
    }
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS) paste_masks(
    const PROBABILITY* __restrict__ probabilities, const float* __restrict__ boxes, int batch,
    int count, int height, int width, PIXELS* __restrict__ masks) {
    __shared__ float source[SIDE * SIDE];
    __shared__ Sample rows[ROWS];
    __shared__ unsigned words[ROWS][WORDS + 1];  // + 1: a warp writes a column without conflicts
    const int across_tiles = ceil_div(width, THREADS);
    const int tiles = ceil_div(height, ROWS) * across_tiles;
    const int index = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    if (index >= count || (int)blockIdx.y >= batch) return;
    const int top = tile / across_tiles * ROWS, left = tile % across_tiles * THREADS;
    const long long mask = (long long)blockIdx.y * count + index;
    const Box box = load_box(boxes, mask);
    const Axis columns = axis_of(box.x0, box.x1, width), down = axis_of(box.y0, box.y1, height);
    const int lane = threadIdx.x % 32;
    const int begin = max(down.start - top, 0), end = min(down.stop - top, ROWS);
    const int from = max(columns.start, left), to = min(columns.stop, left + THREADS);
    unsigned mine = 0;
    if (begin < end && from < to) {
        for (int k = threadIdx.x; k < SIDE * SIDE; k += THREADS) {
            const int r = k / SIDE - 1, c = k % SIDE - 1;
            const bool ring = r < 0 || r >= M || c < 0 || c >= M;
            source[k] = ring ? 0.0f : to_float(probabilities[mask * (M * M) + r * M + c]);
        }
        if (threadIdx.x < ROWS) rows[threadIdx.x] = sample_at(down, top + threadIdx.x);
        __syncthreads();
        const Sample column = sample_at(columns, left + threadIdx.x);
        const int first = left + threadIdx.x - lane;  // of this warp's columns
        const bool seen = first < columns.stop && first + 32 > columns.start;
        int low = -1;
        float above = 0.0f, below = 0.0f;
        for (int k = begin; seen && k < end; ++k) {
            const Sample row = rows[k];
            if (row.low != low) {
                low = row.low;
                above = across(source, row.low, column);
                below = across(source, row.high, column);
            }
            // A column outside the box has weights of 0, and no threshold is below 0.
            const float value = above * row.low_weight + below * row.high_weight;
            const unsigned votes = __ballot_sync(FULL_WARP, value > THRESHOLD);
            if (lane == k) mine = votes;
        }
    }
    words[lane][threadIdx.x / 32] = mine;
    __syncthreads();
    store_tile(words, masks, mask, top, left, height, width);
}
