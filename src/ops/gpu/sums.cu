// The last stage of every sum over a batch.

// parts [count, width] -> total [width]. A block takes 32 columns; its rows of threads take every
// ROWS-th part.
extern "C" __global__ void total_parts(const double* parts, double* total, int count, int width) {
    SHARED(double, shared);
    int column = blockIdx.x * WARP + COLUMN;
    double sum = 0.0;
    if (column < width) {
        for (int part = ROW; part < count; part += ROWS) {
            sum += parts[(size_t)part * width + column];
        }
    }
    sum = column_sum(sum, shared);
    if (ROW == 0 && column < width) total[column] = sum;
}

// The same in f32, for large gradients whose parts are few: a thread takes a column.
extern "C" __global__ void total_parts_f32(const float* parts, float* total, int count, int width) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    double sum = 0.0;
    for (int part = 0; part < count; part++) sum += parts[(size_t)part * width + column];
    total[column] = (float)sum;
}

// Sums -> their quotients in f32.
extern "C" __global__ void divide_sums(const double* sums, float* quotients, int divisor, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) quotients[i] = (float)(sums[i] / divisor);
}

// x [rows, width] -> the sum of its rows [width], divided among threads as in `total_parts`.
extern "C" __global__ void sum_columns(const float* x, float* sums, int rows, int width) {
    SHARED(double, shared);
    int column = blockIdx.x * WARP + COLUMN;
    double sum = 0.0;
    if (column < width) {
        for (int row = ROW; row < rows; row += ROWS) sum += x[(size_t)row * width + column];
    }
    sum = column_sum(sum, shared);
    if (ROW == 0 && column < width) sums[column] = (float)sum;
}
