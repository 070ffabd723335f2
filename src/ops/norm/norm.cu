// Batch norm statistics, and batch norm + activation + gated sum + residual + mask with its gradient.
// All maps are matrices [rows, c]; formulas and names are those of `norm.rs`.

// Sum z and sum z^2 of one part -> parts [part, 2, c].
extern "C" __global__ void norm_moments(const float* z, double* parts, int rows, int c, int part_rows) {
    SHARED(double, shared);
    SumPart part = rows_part(rows, part_rows, c);
    int j = part.j;
    float sums[2] = {0.0f, 0.0f};
    if (j < c) {
        for (int row = part.first + ROW; row < part.end; row += ROWS) {
            float value = z[(size_t)row * c + j];
            sums[0] += value;
            sums[1] = fmaf(value, value, sums[1]);
        }
    }
    put_sums(sums, parts, part, c, shared);
}

// Sums [2, c] over `rows` rows -> mean and biased variance [c].
extern "C" __global__ void norm_finish_moments(
    const double* sums, float* mean, float* variance, int rows, int c) {
    int j = blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= c) return;
    double m = sums[j] / rows;
    double v = sums[c + j] / rows - m * m;
    mean[j] = (float)m;
    variance[j] = v < 0.0 ? 0.0f : (float)v;
}

// 1 / sqrt(variance + epsilon) [c].
extern "C" __global__ void norm_inverse_deviation(
    const float* variance, float* inverse, float epsilon, int c) {
    int j = blockIdx.x * blockDim.x + threadIdx.x;
    if (j < c) inverse[j] = 1.0f / sqrtf(variance[j] + epsilon);
}

// The same of the batch's variance, and keep old + share new of both running statistics. The running
// variance follows the unbiased one. All rows are [c].
extern "C" __global__ void norm_follow(
    const float* mean, const float* variance, const float* old_mean, const float* old_variance,
    float* new_mean, float* new_variance, float* inverse, float keep, float share, float unbiased,
    float epsilon, int c) {
    int j = blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= c) return;
    inverse[j] = 1.0f / sqrtf(variance[j] + epsilon);
    new_mean[j] = fmaf(share, mean[j], keep * old_mean[j]);
    new_variance[j] = fmaf(share, unbiased * variance[j], keep * old_variance[j]);
}

// y = g m act(z scale + shift) + rho m x, or += where `accumulate`. Without z there is only the second
// term, without x only the first. A thread takes one channel of several rows.
extern "C" __global__ void norm_forward(
    const float* z, const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* gates, const float* x, const float* rho, const float* mask, float* y,
    int branch, int function, int accumulate, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float m = mask ? mask[j] : 1.0f;
    float scale = 0.0f, shift = 0.0f, factor = 0.0f;
    if (z) {
        scale = gamma[j] * inverse[j];
        shift = beta[j] - mean[j] * scale;
        factor = m * (gates ? gates[branch] : 1.0f);
    }
    float share = x ? rho[0] * m : 0.0f;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        float out = accumulate ? y[i] : 0.0f;
        if (z) out = fmaf(factor, activate(function, fmaf(z[i], scale, shift)), out);
        if (x) out = fmaf(share, x[i], out);
        y[i] = out;
    }
}

// Sum dy act(u), sum q and sum q (z - mean) of one part, q = dy act'(u) -> parts [part, 3, c].
extern "C" __global__ void norm_backward_sums(
    const float* z, const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* dy, double* parts, int function, int rows, int c, int part_rows) {
    SHARED(double, shared);
    SumPart part = rows_part(rows, part_rows, c);
    int j = part.j;
    float sums[3] = {0.0f, 0.0f, 0.0f};
    if (j < c) {
        float scale = gamma[j] * inverse[j];
        float mu = mean[j];
        float shift = beta[j] - mu * scale;
        for (int row = part.first + ROW; row < part.end; row += ROWS) {
            size_t i = (size_t)row * c + j;
            float d = dy[i];
            float u = fmaf(z[i], scale, shift);
            float q = d * derivative(function, u);
            sums[0] = fmaf(d, activate(function, u), sums[0]);
            sums[1] += q;
            sums[2] = fmaf(q, z[i] - mu, sums[2]);
        }
    }
    put_sums(sums, parts, part, c, shared);
}

// Sum dy x of one part -> parts [part, c].
extern "C" __global__ void norm_identity_sums(
    const float* x, const float* dy, double* parts, int rows, int c, int part_rows) {
    SHARED(double, shared);
    SumPart part = rows_part(rows, part_rows, c);
    float sum[1] = {0.0f};
    if (part.j < c) {
        for (int row = part.first + ROW; row < part.end; row += ROWS) {
            size_t i = (size_t)row * c + part.j;
            sum[0] = fmaf(dy[i], x[i], sum[0]);
        }
    }
    put_sums(sum, parts, part, c, shared);
}

// One block. From the sums [3, c] of a branch, or [1, c] of the identity where there is no gamma:
// d gate (or d rho) = sum_j mask_j value_j at `at`, dmask += gate value, dgamma, dbeta, and the
// constant and linear rows of the input's gradient (see `input_gradient.rs`).
extern "C" __global__ void norm_finish_backward(
    const double* sums, const float* mean, const float* inverse, const float* gamma,
    const float* gate, const float* mask, float* dgate, float* dmask, float* dgamma, float* dbeta,
    float* rows_out, int at, int accumulate, int rows, int c) {
    SHARED(double, shared);
    float g = gate ? gate[at] : 1.0f;
    double dot = 0.0;
    for (int j = threadIdx.x; j < c; j += blockDim.x) {
        float m = mask ? mask[j] : 1.0f;
        double value = sums[j];
        dot += m * value;
        if (dmask) dmask[j] = (float)(g * value) + (accumulate ? dmask[j] : 0.0f);
        if (gamma) {
            double slope = sums[c + j];
            double normalised = sums[2 * c + j] * inverse[j];
            dbeta[j] = (float)(g * m * slope);
            dgamma[j] = (float)(g * m * normalised);
            if (rows_out) {
                double linear = inverse[j] * normalised / rows;
                rows_out[j] = gamma[j] * inverse[j] * g * m;
                rows_out[c + j] = (float)(slope / rows - mean[j] * linear);
                rows_out[2 * c + j] = (float)linear;
            }
        }
    }
    shared[threadIdx.x] = dot;
    __syncthreads();
    if (threadIdx.x == 0 && dgate) {
        double total = 0.0;
        for (int i = 0; i < int(blockDim.x); i++) total += shared[i];
        dgate[at] = (float)total;
    }
}

// dz = factor (q - constant - z linear), q = dy act'(u); the three rows [3, c] come from
// `norm_finish_backward`.
extern "C" __global__ void norm_input_gradient(
    const float* z, const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* dy, const float* rows_in, float* dz, int function, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float scale = gamma[j] * inverse[j];
    float shift = beta[j] - mean[j] * scale;
    float factor = rows_in[j], constant = rows_in[c + j], linear = rows_in[2 * c + j];
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        float q = dy[i] * derivative(function, fmaf(z[i], scale, shift));
        dz[i] = factor * (q - fmaf(z[i], linear, constant));
    }
}

// The same from q instead of dy, in place.
extern "C" __global__ void norm_finish_input_gradient(
    const float* z, const float* rows_in, float* q, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float factor = rows_in[j], constant = rows_in[c + j], linear = rows_in[2 * c + j];
    int step = gridDim.y * ROWS;
    for (int first = blockIdx.y * ROWS + ROW; first < rows; first += BATCH * step) {
        float zs[BATCH], qs[BATCH];
        for (int k = 0; k < BATCH; k++) {
            int row = first + k * step;
            zs[k] = row < rows ? z[(size_t)row * c + j] : 0.0f;
            qs[k] = row < rows ? q[(size_t)row * c + j] : 0.0f;
        }
        for (int k = 0; k < BATCH; k++) {
            int row = first + k * step;
            if (row >= rows) break;
            q[(size_t)row * c + j] = factor * (qs[k] - fmaf(zs[k], linear, constant));
        }
    }
}

// dx = rho m dy.
extern "C" __global__ void norm_identity_gradient(
    const float* rho, const float* mask, const float* dy, float* dx, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float share = rho[0] * (mask ? mask[j] : 1.0f);
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        dx[i] = share * dy[i];
    }
}
