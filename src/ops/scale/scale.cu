// The columns of w [rows, c] times mask [c].
extern "C" __global__ void scale_columns(
    const float* w, const float* mask, float* y, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float m = mask[j];
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        y[i] = w[i] * m;
    }
}

// The rows of x [rows, c] times factors [rows].
extern "C" __global__ void scale_rows(
    const float* x, const float* factors, float* y, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        y[i] = x[i] * factors[row];
    }
}

// dmask [c] = sum over the rows of w dy, both [rows, c]. A block takes 32 columns; its rows of threads
// take every ROWS-th row. Filters have few rows, so that one stage suffices.
extern "C" __global__ void scale_mask_gradient(
    const float* w, const float* dy, float* dmask, int rows, int c) {
    SHARED(double, shared);
    int j = blockIdx.x * WARP + COLUMN;
    double sum = 0.0;
    if (j < c) {
        for (int row = ROW; row < rows; row += ROWS) {
            size_t i = (size_t)row * c + j;
            sum += (double)w[i] * dy[i];
        }
    }
    sum = column_sum(sum, shared);
    if (ROW == 0 && j < c) dmask[j] = (float)sum;
}
