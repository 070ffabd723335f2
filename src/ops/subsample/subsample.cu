// Pixels on a uniform grid, and the sum of several such maps. A row of pixels is one row of values here:
// a thread takes one of them, that is a channel of a pixel, in several rows.

// x [n, h, w, c] at the pixels of a grid -> y [rows, columns c]. A row is one of n `size`.
extern "C" __global__ void subsample_forward(
    const float* x, float* y, int rows, int h, int w, int c, int from, int to, int size, int columns) {
    int at = blockIdx.x * WARP + COLUMN;
    int width = columns * c;
    if (at >= width) return;
    int pixel = at / c;
    const float* column = x + (size_t)(pixel * from / to) * c + (at - pixel * c);
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        int image = row / size;
        int line = image * h + (row - image * size) * from / to;
        y[(size_t)row * width + at] = column[(size_t)line * w * c];
    }
}

#define MERGE_PARTS 16

// Maps [n, size, columns, c], each on a grid of pixels of the sum.
struct MergeParts {
    const float* part[MERGE_PARTS];
    int from[MERGE_PARTS];
    int to[MERGE_PARTS];
    int size[MERGE_PARTS];
    int columns[MERGE_PARTS];
    int count;
};

// The pixel of a small map that is pixel `at` of the large one, or -1.
static __device__ __forceinline__ int merge_source(int at, int from, int to, int size) {
    int i = (at * to + from - 1) / from;
    return i < size && i * from / to == at ? i : -1;
}

// y [rows, w c] = the sum of the parts, or += where `accumulate`. A row is one of n h.
extern "C" __global__ void subsample_merge(
    MergeParts parts, float* y, int accumulate, int rows, int h, int w, int c) {
    int at = blockIdx.x * WARP + COLUMN;
    int width = w * c;
    if (at >= width) return;
    int pixel = at / c;
    int channel = at - pixel * c;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        int image = row / h;
        int line = row - image * h;
        float sum = accumulate ? y[(size_t)row * width + at] : 0.0f;
        for (int p = 0; p < parts.count; p++) {
            int i = merge_source(line, parts.from[p], parts.to[p], parts.size[p]);
            int j = merge_source(pixel, parts.from[p], parts.to[p], parts.columns[p]);
            if (i < 0 || j < 0) continue;
            size_t source = (size_t)(image * parts.size[p] + i) * parts.columns[p] + j;
            sum += parts.part[p][source * c + channel];
        }
        y[(size_t)row * width + at] = sum;
    }
}
