// The projection's hidden map a = act(BN(z)) m, its squeeze-excite and its gradient. Maps are matrices
// [rows, c] of whole images of `pixels` rows; formulas and names are those of `project.rs`.

// One channel of a batch norm and mask, in registers.
struct ProjectChannel {
    float mean, scale, shift, mask;
};

static __device__ __forceinline__ ProjectChannel project_channel(
    const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* mask, int j) {
    ProjectChannel channel;
    channel.mean = mean[j];
    channel.scale = gamma[j] * inverse[j];
    channel.shift = beta[j] - channel.mean * channel.scale;
    channel.mask = mask ? mask[j] : 1.0f;
    return channel;
}

static __device__ __forceinline__ float project_value(ProjectChannel channel, int function, float z) {
    return activate(function, fmaf(z, channel.scale, channel.shift)) * channel.mask;
}

// a, times the gates [n, c] of its image if there are any. A thread takes one channel of several rows.
extern "C" __global__ void project_activate(
    const float* z, const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* mask, const float* gates, float* a, int function, int pixels, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    ProjectChannel channel = project_channel(mean, inverse, gamma, beta, mask, j);
    int step = gridDim.y * ROWS;
    for (int first = blockIdx.y * ROWS + ROW; first < rows; first += BATCH * step) {
        float values[BATCH];
        for (int k = 0; k < BATCH; k++) {
            int row = first + k * step;
            values[k] = row < rows ? z[(size_t)row * c + j] : 0.0f;
        }
        for (int k = 0; k < BATCH; k++) {
            int row = first + k * step;
            if (row >= rows) break;
            float value = project_value(channel, function, values[k]);
            if (gates) value *= gates[(size_t)(row / pixels) * c + j];
            a[(size_t)row * c + j] = value;
        }
    }
}

// `share` times the sum of a over one part of each image's pixels -> means [part, n, c]. A block takes 32
// channels of one part of one image.
extern "C" __global__ void project_pool(
    const float* z, const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* mask, float* means, int function, float share, int images, int pixels,
    int part_pixels, int c) {
    SHARED(double, shared);
    SumPart part = image_part(images, pixels, part_pixels, c);
    int j = part.j;
    float sum = 0.0f;
    if (j < c) {
        ProjectChannel channel = project_channel(mean, inverse, gamma, beta, mask, j);
        for (int row = part.first + ROW; row < part.end; row += ROWS) {
            sum += project_value(channel, function, z[(size_t)row * c + j]);
        }
    }
    double total = column_sum(sum, shared);
    if (ROW == 0 && j < c) means[(size_t)part.number * c + j] = (float)(total * share);
}

// Adds the bias to hidden [n, squeezed]; masked = act(hidden) m'.
extern "C" __global__ void project_squeeze(
    float* hidden, const float* bias, const float* mask, float* masked, int function, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float b = bias[j], m = mask ? mask[j] : 1.0f;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        float value = hidden[i] + b;
        hidden[i] = value;
        masked[i] = activate(function, value) * m;
    }
}

// Adds the bias to the raw gates [n, c]; gates = gate(raw).
extern "C" __global__ void project_excite(
    float* raw, const float* bias, float* gates, int gate, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float b = bias[j];
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        float value = raw[i] + b;
        raw[i] = value;
        gates[i] = activate(gate, value);
    }
}

// The gradient of the raw gates, from d = dL/d(a s): gate'(raw) times the sum of a d over one part of
// each image's pixels -> draw [part, n, c]. Divided among blocks as in `project_pool`.
extern "C" __global__ void project_gate_gradient(
    const float* z, const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* mask, const float* d, const float* raw, float* draw, int function, int gate,
    int images, int pixels, int part_pixels, int c) {
    SHARED(double, shared);
    SumPart part = image_part(images, pixels, part_pixels, c);
    int j = part.j;
    float sum = 0.0f;
    if (j < c) {
        ProjectChannel channel = project_channel(mean, inverse, gamma, beta, mask, j);
        for (int row = part.first + ROW; row < part.end; row += ROWS) {
            size_t i = (size_t)row * c + j;
            sum = fmaf(project_value(channel, function, z[i]), d[i], sum);
        }
    }
    double total = column_sum(sum, shared);
    if (ROW == 0 && j < c) {
        float slope = derivative(gate, raw[(size_t)(part.number % images) * c + j]);
        draw[(size_t)part.number * c + j] = (float)(total * slope);
    }
}

// d [n, squeezed], the gradient of `masked`, becomes that of hidden. dmask gets that of the mask, image by
// image.
extern "C" __global__ void project_squeeze_gradient(
    const float* hidden, const float* mask, float* d, float* dmask, int function, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float m = mask ? mask[j] : 1.0f;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        float value = hidden[i], slope = d[i];
        dmask[i] = slope * activate(function, value);
        d[i] = slope * m * derivative(function, value);
    }
}

// q, which is dL/d(a s), becomes dL/da act'(u) without the mask, dL/da being q s + share dpooled where
// there are gates. Sum dL/da act(u), sum q and sum q (z - mean) of one part -> parts [part, 3, c]. Where
// `a` is given, it gets a s.
extern "C" __global__ void project_backward(
    const float* z, const float* mean, const float* inverse, const float* gamma, const float* beta,
    const float* mask, const float* gates, const float* dpooled, float* q, float* a, double* parts,
    int function, float share, int pixels, int rows, int c, int part_rows) {
    SHARED(double, shared);
    SumPart part = rows_part(rows, part_rows, c);
    int j = part.j;
    float sums[3] = {0.0f, 0.0f, 0.0f};
    if (j < c) {
        ProjectChannel channel = project_channel(mean, inverse, gamma, beta, mask, j);
        for (int from = part.first + ROW; from < part.end; from += BATCH * ROWS) {
            float zs[BATCH], ds[BATCH];
            for (int k = 0; k < BATCH; k++) {
                int row = from + k * ROWS;
                zs[k] = row < part.end ? z[(size_t)row * c + j] : 0.0f;
                ds[k] = row < part.end ? q[(size_t)row * c + j] : 0.0f;
            }
            for (int k = 0; k < BATCH; k++) {
                int row = from + k * ROWS;
                if (row >= part.end) break;
                size_t i = (size_t)row * c + j;
                float u = fmaf(zs[k], channel.scale, channel.shift);
                float value = activate(function, u);
                float gate = 1.0f, d = ds[k];
                if (gates) {
                    size_t at = (size_t)(row / pixels) * c + j;
                    gate = gates[at];
                    d = fmaf(d, gate, dpooled[at] * share);
                }
                if (a) a[i] = value * channel.mask * gate;
                float slope = d * derivative(function, u);
                q[i] = slope;
                sums[0] = fmaf(d, value, sums[0]);
                sums[1] += slope;
                sums[2] = fmaf(slope, zs[k] - channel.mean, sums[2]);
            }
        }
    }
    put_sums(sums, parts, part, c, shared);
}
