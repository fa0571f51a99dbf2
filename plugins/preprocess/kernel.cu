// Preprocess. The first kernel writes where the picture lies and Pillow's fixed-point weights, in
// double, a thread for each column and row of the canvas. In the second, a block makes TILE_ROWS x
// 32 pixels of the canvas, all channels, CHUNK source rows at a time: the bytes under the tile go
// to shared memory as they lie in the picture, a warp resamples a row of them to 32 columns of
// bytes, a lane each, and each thread adds the resampled rows to its own pixels.
//
// weights[t * outputs + x] is tap t of output x, so lanes read neighbours; taps are a multiple of
// 4, and those beyond the picture weigh 0.
#include "common.cuh"

#define PRECISION_BITS 22
#define WARPS (THREADS / 32)
#define PIXELS (TILE_ROWS / WARPS)  // a thread's, one below the other
#if THREADS % 32 != 0 || TILE_ROWS % WARPS != 0
#error "a warp owns whole rows of a tile"
#endif

__constant__ const float pad_value[] = {PAD_VALUE};
__constant__ const float mean[] = {MEAN};
__constant__ const float deviation[] = {STD};

__device__ __forceinline__ int tap_count(int source, int outputs) {
    return (2 * ceil_div(source, outputs) + 1 + 3) & ~3;
}

__device__ __forceinline__ double triangle(int pixel, double centre, double step) {
    return fmax(1.0 - fabs(((double)pixel - centre + 0.5) * step), 0.0);
}

// Pillow's precompute_coeffs and normalize_coeffs_8bpc for output x.
__device__ __forceinline__ void write_taps(int source, int outputs, int x, int* first_of,
                                           int* weights) {
    const double scale = (double)source / (double)outputs, support = fmax(scale, 1.0);
    const double centre = ((double)x + 0.5) * scale, step = 1.0 / support;
    const int first = max((int)(centre - support + 0.5), 0);
    const int count = min((int)(centre + support + 0.5), source) - first;
    double total = 0.0;
    for (int t = 0; t < count; ++t) total += triangle(first + t, centre, step);
    first_of[x] = first;
    const int taps = tap_count(source, outputs);
    for (int t = 0; t < taps; ++t) {
        const double weight = t < count ? triangle(first + t, centre, step) / total : 0.0;
        weights[(long long)t * outputs + x] = (int)(0.5 + weight * (double)(1 << PRECISION_BITS));
    }
}

__device__ __forceinline__ int placed_extent(int extent, double scale, int limit) {
    return min(max((int)rint((double)extent * scale), 1), limit);
}

extern "C" __global__ void __launch_bounds__(TAP_THREADS) preprocess_taps(
    const unsigned char* __restrict__, int height, int width, int canvas_height, int canvas_width,
    int* __restrict__ placed, int* __restrict__ row_first, int* __restrict__ row_weights,
    int* __restrict__ column_first, int* __restrict__ column_weights) {
    const double down = (double)canvas_height / (double)height;
    const double scale = fmin(down, (double)canvas_width / (double)width);
    const int rows = placed_extent(height, scale, canvas_height);
    const int columns = placed_extent(width, scale, canvas_width);
    const int index = blockIdx.x * TAP_THREADS + threadIdx.x, row = index - canvas_width;
    if (index == 0) {
        placed[0] = rows;
        placed[1] = columns;
    }
    if (index < columns) write_taps(width, columns, index, column_first, column_weights);
    if (row >= 0 && row < rows) write_taps(height, rows, row, row_first, row_weights);
}

__device__ __forceinline__ int byte_of(unsigned word, int index) {
    return (int)(word >> (8 * index) & 0xffu);
}

__device__ __forceinline__ unsigned joined(unsigned low, unsigned high, int shift) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> shift);
}

__device__ __forceinline__ unsigned char to_byte(int sum) {
    return (unsigned char)min(sum >> PRECISION_BITS, 255);
}

struct Colour {
    int red, green, blue;
};

// 4 pixels are 3 words, which are put together of 4 as they lie anywhere.
__device__ __forceinline__ Colour resample_staged(const unsigned* words, int offset,
                                                  const int* weights, int taps, int outputs) {
    const int shift = offset % 4 * 8;
    const int half = 1 << (PRECISION_BITS - 1);
    Colour sum = {half, half, half};
    words += offset / 4;
    unsigned carried = *words;
#pragma unroll 1
    for (int t = 0; t < taps; t += 4, words += 3, weights += 4 * outputs) {
        const unsigned next = words[1], later = words[2], last = words[3];
        const unsigned a = joined(carried, next, shift), b = joined(next, later, shift),
                       c = joined(later, last, shift);
        const int w0 = weights[0], w1 = weights[outputs], w2 = weights[2 * outputs],
                  w3 = weights[3 * outputs];
        carried = last;
        sum.red += byte_of(a, 0) * w0 + byte_of(a, 3) * w1;
        sum.green += byte_of(a, 1) * w0 + byte_of(b, 0) * w1;
        sum.blue += byte_of(a, 2) * w0 + byte_of(b, 1) * w1;
        sum.red += byte_of(b, 2) * w2 + byte_of(c, 1) * w3;
        sum.green += byte_of(b, 3) * w2 + byte_of(c, 2) * w3;
        sum.blue += byte_of(c, 0) * w2 + byte_of(c, 3) * w3;
    }
    return sum;
}

// Where not even one source row fits into shared memory.
__device__ __forceinline__ Colour resample_direct(const unsigned char* pixels, const int* weights,
                                                  int taps, int outputs) {
    const int half = 1 << (PRECISION_BITS - 1);
    Colour sum = {half, half, half};
#pragma unroll 1
    for (int t = 0; t < taps; ++t) {
        const int weight = weights[(long long)t * outputs];
        sum.red += pixels[3 * t] * weight;
        sum.green += pixels[3 * t + 1] * weight;
        sum.blue += pixels[3 * t + 2] * weight;
    }
    return sum;
}

// The 16 bytes at an aligned place, zeros where it is not in the picture.
__device__ __forceinline__ uint4 load_vector(const unsigned char* place,
                                             const unsigned char* begin, const unsigned char* end) {
    if (place >= begin && end - place >= 16) return *reinterpret_cast<const uint4*>(place);
    unsigned words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 16; ++i)
        if (place + i >= begin && place + i < end)
            words[i / 4] |= (unsigned)place[i] << (i % 4 * 8);
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Four blocks a multiprocessor: 64 registers, which the short loops leave room for.
extern "C" __global__ void __launch_bounds__(THREADS, 4) preprocess(
    const unsigned char* __restrict__ image, const int* __restrict__ placed,
    const int* __restrict__ row_first, const int* __restrict__ row_weights,
    const int* __restrict__ column_first, const int* __restrict__ column_weights, int height,
    int width, int canvas_height, int canvas_width, RESULT* __restrict__ tensor) {
    __shared__ uint4 staged[STAGED];
    __shared__ unsigned char across[CHUNK][3][32];
    const int rows = placed[0], columns = placed[1];
    const int left = blockIdx.x * 32, top = blockIdx.y * TILE_ROWS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int x = left + lane;
    int sums[PIXELS][3];
#pragma unroll
    for (int i = 0; i < PIXELS; ++i)
        for (int c = 0; c < 3; ++c) sums[i][c] = 1 << (PRECISION_BITS - 1);
    if (left < columns && top < rows) {
        const int taps = tap_count(width, columns), row_taps = tap_count(height, rows);
        const int begin = column_first[left], first = column_first[min(x, columns - 1)];
        const int used = column_first[min(left + 31, columns - 1)] + taps - begin;  // pixels
        const int vectors = (3 * used + 15 + 4 + 15) / 16;  // anywhere in the first, a word beyond
        const bool fits = vectors <= STAGED;
        const int chunk = fits ? min(CHUNK, STAGED / vectors) : CHUNK;
        const int stop = min(row_first[min(top + TILE_ROWS, rows) - 1] + row_taps, height);
        const unsigned char* const end = image + (long long)height * width * 3;
        for (int start = row_first[top]; start < stop; start += chunk) {
            const int count = min(chunk, stop - start);
            for (int r = warp; fits && r < count; r += WARPS) {
                const unsigned char* place = image + ((long long)(start + r) * width + begin) * 3;
                place -= (unsigned long long)place & 15;
#pragma unroll 1
                for (int v = lane; v < vectors; v += 32)
                    staged[r * vectors + v] = load_vector(place + v * 16, image, end);
            }
            __syncthreads();
            for (int r = warp; r < count && x < columns; r += WARPS) {
                const long long place = ((long long)(start + r) * width + begin) * 3;
                const int shift = (int)((unsigned long long)(image + place) & 15);
                const int* weights = column_weights + x;
                const Colour colour =
                    fits ? resample_staged(reinterpret_cast<const unsigned*>(staged + r * vectors),
                                           shift + (first - begin) * 3, weights, taps, columns)
                         : resample_direct(image + place + (first - begin) * 3, weights,
                                           min(taps, width - first), columns);
                across[r][0][lane] = to_byte(colour.red);
                across[r][1][lane] = to_byte(colour.green);
                across[r][2][lane] = to_byte(colour.blue);
            }
            __syncthreads();
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) {
                const int y = top + warp + i * WARPS;
                if (y >= rows || x >= columns) continue;
                const int mine = row_first[y];
                const int last = min(mine + row_taps, start + count);
#pragma unroll 1
                for (int r = max(mine, start); r < last; ++r) {
                    const int weight = row_weights[(long long)(r - mine) * rows + y];
#pragma unroll
                    for (int c = 0; c < 3; ++c) sums[i][c] += across[r - start][c][lane] * weight;
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < PIXELS; ++i) {
        const int y = top + warp + i * WARPS;
        if (y >= canvas_height || x >= canvas_width) continue;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const bool covered = y < rows && x < columns;
            const float pixel = covered ? to_float(to_byte(sums[i][c])) : pad_value[c];
            const long long place = ((long long)c * canvas_height + y) * canvas_width + x;
            store(tensor + place, (pixel - mean[c]) / deviation[c]);
        }
    }
}
