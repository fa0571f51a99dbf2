// MultilevelRoIAlign: one block a box and share of channels. The block finds the box's level, writes
// the bilinear weights of every sampling row and column to shared memory once, and each thread then
// pools outputs of consecutive columns, so neighbouring threads read neighbouring features.
#include "common.cuh"

#if LEVELS > 5
#define FROM_6(X) , X(5)
#else
#define FROM_6(X)
#endif
#if LEVELS > 4
#define FROM_5(X) , X(4) FROM_6(X)
#else
#define FROM_5(X)
#endif
#if LEVELS > 3
#define FROM_4(X) , X(3) FROM_5(X)
#else
#define FROM_4(X)
#endif
#if LEVELS > 2
#define FROM_3(X) , X(2) FROM_4(X)
#else
#define FROM_3(X)
#endif
#if LEVELS > 1
#define FROM_2(X) , X(1) FROM_3(X)
#else
#define FROM_2(X)
#endif
#define EACH_LEVEL(X) X(0) FROM_2(X)

#define MAP(i) const FEATURE *__restrict__ level##i
#define SIZE(i) int height##i, int width##i
#define POINTER(i) level##i
#define HEIGHT(i) height##i
#define WIDTH(i) width##i

__constant__ const float first_sides[] = {FIRST_SIDES};
__constant__ const float spatial_scales[] = {SPATIAL_SCALES};

// One sampling point of an axis: (1 - weight) * map[low] + weight * map[high], or nothing.
struct Sample {
    int low, high;
    float low_weight, high_weight;
};

__device__ __forceinline__ Sample sample_at(float point, int size) {
    if (!(point >= -1.0f && point <= (float)size)) return {0, 0, 0.0f, 0.0f};
    const float inside = fminf(fmaxf(point, 0.0f), (float)(size - 1));
    const int low = (int)inside;
    const float weight = inside - (float)low;
    return {low, min(low + 1, size - 1), 1.0f - weight, weight};
}

__device__ __forceinline__ float interpolate(const FEATURE* map, int width, Sample y, Sample x) {
    const FEATURE *low = map + y.low * width, *high = map + y.high * width;
    const float above = x.low_weight * to_float(low[x.low]) + x.high_weight * to_float(low[x.high]);
    const float below = x.low_weight * to_float(high[x.low]) + x.high_weight * to_float(high[x.high]);
    return y.low_weight * above + y.high_weight * below;
}

// One axis of a box on its level: bins of `bin` pixels from `start`.
struct Axis {
    float start, bin;
};

__device__ __forceinline__ Axis axis_of(float low, float high, float scale, int bins) {
    const float start = low * scale, extent = high * scale - start;
    const float side = ALIGNED ? extent : fmaxf(extent, 1.0f);
    return {start - (ALIGNED ? 0.5f : 0.0f), side / (float)bins};
}

#if RATIO == 0
// Samples of bin `index` that can lie on the map: `first` to `last` of `count`. The others are zero,
// so a box however large costs no more than the map has pixels.
struct Span {
    int first, last;
    float count, step, start;
};

__device__ __forceinline__ Span span_of(Axis axis, int index, int size) {
    const float count = ceilf(axis.bin), step = axis.bin / count;
    const float start = axis.start + (float)index * axis.bin;
    if (!(count > 0.0f)) return {0, -1, 0.0f, 0.0f, 0.0f};
    const float first = fmaxf(floorf((-1.0f - start) / step) - 1.0f, 0.0f);
    const float last = fminf(ceilf(((float)size - start) / step) + 1.0f, count - 1.0f);
    if (!(first <= last)) return {0, -1, count, step, start};
    return {(int)first, (int)last, count, step, start};
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS) multilevel_roialign(
    const float* __restrict__ boxes, EACH_LEVEL(MAP), int count, int channels, EACH_LEVEL(SIZE),
    RESULT* __restrict__ output) {
    const int heights[] = {EACH_LEVEL(HEIGHT)}, widths[] = {EACH_LEVEL(WIDTH)};
    const FEATURE* const maps[] = {EACH_LEVEL(POINTER)};
    const int index = blockIdx.x, first = blockIdx.y * SHARE, last = min(first + SHARE, channels);
    if (index >= count || first >= channels) return;
    const long long place = (long long)blockIdx.z * count + index;
    const Box box = load_box(boxes, place);
    RESULT* const mine = output + (place * channels + first) * (OUT_H * OUT_W);
    const int outputs = (last - first) * (OUT_H * OUT_W);
    // Coordinates that are no numbers, or beyond any picture, pool nothing.
    const float reach = fabsf(box.x0) + fabsf(box.y0) + fabsf(box.x1) + fabsf(box.y1);
    if (!(reach <= 1e9f)) {
        for (int o = threadIdx.x; o < outputs; o += THREADS) store(mine + o, 0.0f);
        return;
    }
    const float side = sqrtf(area(box));
    int level = 0;
    const FEATURE* map = maps[0];
    int height = heights[0], width = widths[0];
#pragma unroll
    for (int l = 1; l < LEVELS; ++l)
        if (side >= first_sides[l - 1]) {
            level = l;
            map = maps[l];
            height = heights[l];
            width = widths[l];
        }
    const long long pixels = (long long)height * width;
    map += ((long long)blockIdx.z * channels + first) * pixels;
    const Axis down = axis_of(box.y0, box.y1, spatial_scales[level], OUT_H);
    const Axis across = axis_of(box.x0, box.x1, spatial_scales[level], OUT_W);
#if RATIO > 0
    __shared__ Sample rows[OUT_H * RATIO], columns[OUT_W * RATIO];
    for (int k = threadIdx.x; k < (OUT_H + OUT_W) * RATIO; k += THREADS) {
        const bool vertical = k < OUT_H * RATIO;
        const int at = vertical ? k : k - OUT_H * RATIO;
        const Axis axis = vertical ? down : across;
        const float offset = ((float)(at % RATIO) + 0.5f) * axis.bin / (float)RATIO;
        const float point = axis.start + (float)(at / RATIO) * axis.bin + offset;
        (vertical ? rows : columns)[at] = sample_at(point, vertical ? height : width);
    }
    __syncthreads();
#endif
    for (int o = threadIdx.x; o < outputs; o += THREADS) {
        const int channel = o / (OUT_H * OUT_W), bin = o % (OUT_H * OUT_W);
        const FEATURE* const plane = map + channel * pixels;
        const int i = bin / OUT_W, j = bin % OUT_W;
        float total = MAXIMUM ? __int_as_float(0xff800000) : 0.0f;
#if RATIO > 0
#pragma unroll(RATIO <= 4 ? RATIO : 1)
        for (int y = 0; y < RATIO; ++y)
#pragma unroll(RATIO <= 4 ? RATIO : 1)
            for (int x = 0; x < RATIO; ++x) {
                const float value =
                    interpolate(plane, width, rows[i * RATIO + y], columns[j * RATIO + x]);
                total = MAXIMUM ? fmaxf(total, value) : total + value;
            }
        const float pooled = MAXIMUM ? total : total / (float)(RATIO * RATIO);
#else
        const Span ys = span_of(down, i, height), xs = span_of(across, j, width);
        for (int y = ys.first; y <= ys.last; ++y) {
            const Sample row = sample_at(ys.start + ((float)y + 0.5f) * ys.step, height);
            for (int x = xs.first; x <= xs.last; ++x) {
                const Sample column = sample_at(xs.start + ((float)x + 0.5f) * xs.step, width);
                const float value = interpolate(plane, width, row, column);
                total = MAXIMUM ? fmaxf(total, value) : total + value;
            }
        }
        const bool whole = (float)(ys.last - ys.first + 1) == ys.count &&
                           (float)(xs.last - xs.first + 1) == xs.count;
        const bool none = !(ys.count > 0.0f && xs.count > 0.0f);
        // A sample that was passed over is a zero.
        const float best = whole ? total : fmaxf(total, 0.0f);
        const float pooled = none ? 0.0f : MAXIMUM ? best : total / (ys.count * xs.count);
#endif
        store(mine + o, pooled * FEATURE_SCALE);
    }
}
