// Inference: what comes behind a product whose weights contain the scale of the batch norm.

// y = act(y + bias), in place. `added`, a map of as many rows with c_added channels, is added to that: the
// channels that both have.
extern "C" __global__ void inference_finish(
    float* y, const float* bias, const float* added, int function, int rows, int c, int c_added) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float b = bias ? bias[j] : 0.0f;
    bool adds = added && j < c_added;
    int step = gridDim.y * ROWS;
    for (int first = blockIdx.y * ROWS + ROW; first < rows; first += BATCH * step) {
        float values[BATCH], others[BATCH];
        for (int k = 0; k < BATCH; k++) {
            int row = first + k * step;
            values[k] = row < rows ? y[(size_t)row * c + j] : 0.0f;
            others[k] = adds && row < rows ? added[(size_t)row * c_added + j] : 0.0f;
        }
        for (int k = 0; k < BATCH; k++) {
            int row = first + k * step;
            if (row >= rows) break;
            y[(size_t)row * c + j] = activate(function, values[k] + b) + others[k];
        }
    }
}
