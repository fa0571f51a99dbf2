// What lies between the operators and the engine, an element a thread.
//
// interleave: Preprocess gives float [3, pixels] of whole numbers 0..255 (mean 0, deviation 1), and
// the engine takes uint8 [pixels, 3].
// to_picture: boxes on the canvas, times the canvas' own scales, are boxes in the picture. The
// product is made in double and rounded once, as the CPU's placement does it.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) interleave(
    const float* __restrict__ canvas, int pixels, unsigned char* __restrict__ images) {
    const int at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= pixels) return;
#pragma unroll
    for (int c = 0; c < 3; ++c)
        images[(long long)at * 3 + c] = (unsigned char)canvas[(long long)c * pixels + at];
}

extern "C" __global__ void __launch_bounds__(THREADS) to_picture(
    const float* __restrict__ boxes, int count, int height, int width, int canvas_height,
    int canvas_width, float* __restrict__ mapped) {
    const int at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= count) return;
    const double across = (double)width / (double)canvas_width;
    const double down = (double)height / (double)canvas_height;
    const Box box = load_box(boxes, at);
    store_box(mapped, at,
              {(float)((double)box.x0 * across), (float)((double)box.y0 * down),
               (float)((double)box.x1 * across), (float)((double)box.y1 * down)});
}
