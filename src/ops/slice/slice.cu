// The first matrices of x [.., x_rows, x_pitch], of each the first rows, of each the first columns -> the
// same places of y [.., y_rows, y_pitch]. `all` counts the rows of all matrices. A thread takes one
// column of several rows.
extern "C" __global__ void slice_copy(
    const float* x, float* y, int all, int rows, int columns, int x_rows, int x_pitch, int y_rows,
    int y_pitch) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= columns) return;
    for (int i = blockIdx.y * ROWS + ROW; i < all; i += gridDim.y * ROWS) {
        size_t matrix = i / rows;
        int row = i % rows;
        y[(matrix * y_rows + row) * y_pitch + j] = x[(matrix * x_rows + row) * x_pitch + j];
    }
}
