// The weights of a grouped 1x1 convolution, w [rows / groups, columns], as those of a dense one, [rows, columns].

// The place of a row among all rows, ordered by group.
static __device__ __forceinline__ int group_place(int row, int each, int groups, int shuffled) {
    return shuffled ? row % each * groups + row / each : row;
}

// A thread takes one column of several rows.
extern "C" __global__ void groups_dense(
    const float* w, float* y, int rows, int columns, int groups, int shuffled) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= columns) return;
    int own = j / (columns / groups), each = rows / groups;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        int place = group_place(row, each, groups, shuffled);
        y[(size_t)row * columns + j] = place / each == own ? w[(size_t)(place % each) * columns + j] : 0.0f;
    }
}

// The entries of d [rows, columns] that are entries of w.
extern "C" __global__ void groups_backward(
    const float* d, float* dw, int rows, int columns, int groups, int shuffled) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= columns) return;
    int own = j / (columns / groups), each = rows / groups;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        int place = group_place(row, each, groups, shuffled);
        if (place / each == own) dw[(size_t)(place % each) * columns + j] = d[(size_t)row * columns + j];
    }
}
