// The terms of an expansion's gradients that depend on sums over the whole batch; the formulas are at
// the head of `depthwise.rs`. w is [c_in, c], sums [2, c] are sum q and sum q (z - mean).

// scaled = w s.
extern "C" __global__ void expand_scale(
    const float* w, const float* inverse, const float* gamma, float* scaled, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float scale = gamma[j] * inverse[j];
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        scaled[i] = w[i] * scale;
    }
}

// weighted = -w diag(s m2 / sigma) [c_in, c], constant = -w (s m1 - s m2 mean / sigma) [c_in]. A block
// takes one row of w.
extern "C" __global__ void expand_input_terms(
    const float* w, const float* mean, const float* inverse, const float* gamma,
    const double* sums, float* weighted, float* constant, int rows, int c) {
    SHARED(double, shared);
    double total = 0.0;
    for (int j = threadIdx.x; j < c; j += blockDim.x) {
        size_t i = (size_t)blockIdx.x * c + j;
        double scale = gamma[j] * inverse[j];
        double m1 = sums[j] / rows;
        double m2_inverse = sums[c + j] * inverse[j] / rows * inverse[j];
        weighted[i] = (float)(-(w[i] * (scale * m2_inverse)));
        total -= w[i] * (scale * (m1 - m2_inverse * mean[j]));
    }
    total = warp_sum(total);
    if (COLUMN == 0) shared[ROW] = total;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int row = 1; row < int(ROWS); row++) total += shared[row];
        constant[blockIdx.x] = (float)total;
    }
}

// dx += constant.
extern "C" __global__ void expand_add_constant(
    const float* constant, float* dx, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float value = constant[j];
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        dx[(size_t)row * c + j] += value;
    }
}

// dw = s (products - R mean_x m1 - R (m2 / sigma) covariance), all [rows, c]: products are x^T q, and
// covariance is Sigma W. Also dgamma and dbeta.
extern "C" __global__ void expand_weight_gradients(
    const float* products, const float* covariance, const float* mean_x, const float* inverse,
    const float* gamma, const double* sums, float* dw, float* dgamma, float* dbeta, int rows,
    int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    double scale = gamma[j] * inverse[j];
    double sum = sums[j], normalised = sums[c + j] * inverse[j];
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        double d = products[i] - mean_x[row] * sum - normalised * inverse[j] * covariance[i];
        dw[i] = (float)(scale * d);
    }
    if (blockIdx.y == 0 && ROW == 0) {
        dgamma[j] = (float)normalised;
        dbeta[j] = (float)sum;
    }
}
