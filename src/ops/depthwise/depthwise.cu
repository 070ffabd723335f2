// Depthwise convolution of channels-last maps [n, h, w, c], its transpose and its filter's gradient,
// each with the batch norm and activation of an expansion in front. Formulas and names are those of
// `depthwise.rs`; pad = K / 2.
//
// A block takes 32 channels (a lane each) of several tiles of a map, one after the other. It loads what
// the filter reads into shared memory as [rows, columns, 32], applying batch norm and activation, and
// each of its warps computes groups of four adjacent pixels.

#define DEPTHWISE_GROUP 4

// The shapes of a convolution, and how a map of `rows` x `columns` pixels of each image is divided into
// tiles. `Shape` of gpu.rs.
struct DepthwiseShape {
    int h, w, oh, ow, c, stride;
    // The map that is divided: the output, or the input in the transposed convolution.
    int rows, columns;
    // Pixels of a tile; a row has 1 << shift groups.
    int tile_rows, shift;
    int tiles_down, tiles_across;
    // Tiles of all images, and how many of them a block takes.
    int tiles, tiles_each;
    // Pixels of the other map that a tile reads.
    int read_rows, read_columns;
    // Whether to add to the sums of earlier launches.
    int accumulate;
};

// Batch norm and activation in front of the convolution; null if there are none.
struct DepthwiseFront {
    const float *mean, *inverse, *gamma, *beta;
    int function;
};

// Scale and shift of a batch norm for one channel, and the activation behind it.
struct DepthwiseNorm {
    float mean, scale, shift;
    int function;
};

// Of this thread's channel.
static __device__ __forceinline__ DepthwiseNorm depthwise_norm(const DepthwiseFront& front, int c) {
    DepthwiseNorm norm = {0.0f, 1.0f, 0.0f, IDENTITY};
    int j = sum_part_of(c).j;
    if (front.mean && j < c) {
        norm.mean = front.mean[j];
        norm.scale = front.gamma[j] * front.inverse[j];
        norm.shift = front.beta[j] - norm.mean * norm.scale;
        norm.function = front.function;
    }
    return norm;
}

// One tile: its image and its first pixel.
struct DepthwiseTile {
    int image, row, column;
};

// Four adjacent pixels of the map that is divided, of which `count` are inside: the first one's place in
// its image and its number among the pixels of all images.
struct DepthwiseGroup {
    int row, column, count;
    size_t pixel;
};

static __device__ __forceinline__ DepthwiseTile depthwise_tile(const DepthwiseShape& s, int number) {
    int across = number % s.tiles_across;
    int rest = number / s.tiles_across;
    return {rest / s.tiles_down, rest % s.tiles_down * s.tile_rows, across * (DEPTHWISE_GROUP << s.shift)};
}

static __device__ __forceinline__ DepthwiseGroup depthwise_group(
    const DepthwiseShape& s, const DepthwiseTile& at, int number) {
    int row = at.row + (number >> s.shift);
    int column = at.column + (number & ((1 << s.shift) - 1)) * DEPTHWISE_GROUP;
    int count = row < s.rows ? min(DEPTHWISE_GROUP, s.columns - column) : 0;
    return {row, column, count, ((size_t)at.image * s.rows + row) * s.columns + column};
}

// The taps of one channel, zeros beyond c.
template <int K>
static __device__ __forceinline__ void depthwise_taps(
    const float* filter, int j, int c, float (&taps)[K * K]) {
    UNROLL for (int t = 0; t < K * K; t++) taps[t] = j < c ? filter[t * c + j] : 0.0f;
}

// Loads the pixels from (row, column) of channel j of an image [h, w, c] into a tile; zeros outside.
static __device__ __forceinline__ void depthwise_load(
    float* tile, const float* image, const DepthwiseNorm& norm, int h, int w, int c, int j, int row,
    int column, int rows, int columns) {
    const int AT_ONCE = 4;
    int pixels = rows * columns;
    int r = row, q = column + int(ROW);
    for (int first = ROW; first < pixels; first += AT_ONCE * ROWS) {
        float values[AT_ONCE];
        bool inside[AT_ONCE];
        UNROLL for (int m = 0; m < AT_ONCE; m++) {
            while (q >= column + columns) {
                q -= columns;
                r++;
            }
            inside[m] = j < c && r >= 0 && r < h && q >= 0 && q < w
                && first + m * int(ROWS) < pixels;
            values[m] = inside[m] ? image[(size_t)(r * w + q) * c + j] : 0.0f;
            q += ROWS;
        }
        UNROLL for (int m = 0; m < AT_ONCE; m++) {
            int pixel = first + m * ROWS;
            float u = fmaf(values[m], norm.scale, norm.shift);
            float value = inside[m] ? activate(norm.function, u) : 0.0f;
            if (pixel < pixels) tile[pixel * WARP + COLUMN] = value;
        }
    }
}

// Loads what the filter reads for tile `number` of the output. All threads must call it.
template <int K>
static __device__ __forceinline__ DepthwiseTile depthwise_load_input(
    float* tile, const float* x, const DepthwiseNorm& norm, int number, int j, int stride,
    const DepthwiseShape& s) {
    DepthwiseTile at = depthwise_tile(s, number);
    __syncthreads();
    depthwise_load(tile, x + (size_t)at.image * s.h * s.w * s.c, norm, s.h, s.w, s.c, j,
                   at.row * stride - K / 2, at.column * stride - K / 2, s.read_rows, s.read_columns);
    __syncthreads();
    return at;
}

// What a group of outputs reads of one row of such a tile. S is the stride, or 0 if it is another than 1
// and 2; with S, values are loaded once.
template <int K, int S>
struct DepthwiseRow {
    const float* from;
    int stride;
    float window[(DEPTHWISE_GROUP - 1) * S + K];

    __device__ __forceinline__ DepthwiseRow(
        const float* tile, const DepthwiseTile& at, const DepthwiseGroup& group, int kh, int stride,
        const DepthwiseShape& s) : stride(stride) {
        int row = (group.row - at.row) * stride + kh, column = (group.column - at.column) * stride;
        from = tile + (row * s.read_columns + column) * WARP + COLUMN;
        if (S > 0) {
            UNROLL for (int i = 0; i < (DEPTHWISE_GROUP - 1) * S + K; i++) window[i] = from[i * WARP];
        }
    }
    // What output m of the group multiplies by tap kw.
    __device__ __forceinline__ float value(int m, int kw) const {
        return S > 0 ? window[m * S + kw] : from[(m * stride + kw) * WARP];
    }
};

template <int K, int S>
static __device__ __forceinline__ void depthwise_forward(
    const float* x, const DepthwiseNorm& norm, const float* filter, float* y, double* parts,
    float* tile, const DepthwiseShape& s) {
    SumPart block = rows_part(s.tiles, s.tiles_each, s.c);
    int j = block.j, stride = S > 0 ? S : s.stride;
    float taps[K * K];
    depthwise_taps<K>(filter, j, s.c, taps);
    float sums[2] = {0.0f, 0.0f};
    for (int number = block.first; number < block.end; number++) {
        DepthwiseTile at = depthwise_load_input<K>(tile, x, norm, number, j, stride, s);
        for (int task = ROW; task < s.tile_rows << s.shift; task += ROWS) {
            DepthwiseGroup group = depthwise_group(s, at, task);
            if (group.count <= 0) continue;
            float z[DEPTHWISE_GROUP] = {0.0f, 0.0f, 0.0f, 0.0f};
            UNROLL for (int kh = 0; kh < K; kh++) {
                DepthwiseRow<K, S> row(tile, at, group, kh, stride, s);
                UNROLL for (int kw = 0; kw < K; kw++) {
                    UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                        z[m] = fmaf(row.value(m, kw), taps[kh * K + kw], z[m]);
                    }
                }
            }
            UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                if (m >= group.count || j >= s.c) continue;
                y[(group.pixel + m) * s.c + j] = z[m];
                sums[0] += z[m];
                sums[1] = fmaf(z[m], z[m], sums[1]);
            }
        }
    }
    double* shared = reinterpret_cast<double*>(tile);
    if (parts) put_sums(sums, parts, block, s.c, shared, s.accumulate);
}

// y = depthwise(act(BN(x))); sum y and sum y^2 -> parts [part, 2, c].
template <int K>
static __device__ __forceinline__ void depthwise_forward_of(
    const float* x, const DepthwiseFront& front, const float* filter, float* y, double* parts,
    float* tile, const DepthwiseShape& s) {
    DepthwiseNorm norm = depthwise_norm(front, s.c);
    switch (s.stride) {
        case 1: return depthwise_forward<K, 1>(x, norm, filter, y, parts, tile, s);
        case 2: return depthwise_forward<K, 2>(x, norm, filter, y, parts, tile, s);
        default: return depthwise_forward<K, 0>(x, norm, filter, y, parts, tile, s);
    }
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_forward_3(
    const float* x, DepthwiseFront front, const float* filter, float* y, double* parts,
    DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_forward_of<3>(x, front, filter, y, parts, tile, s);
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_forward_5(
    const float* x, DepthwiseFront front, const float* filter, float* y, double* parts,
    DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_forward_of<5>(x, front, filter, y, parts, tile, s);
}

// Adds the transposed convolution at four adjacent inputs from (row, column), a multiple of four. The
// tile begins at output (first_row, first_column). Output o reads input o S + tap - pad.
template <int K, int S>
static __device__ __forceinline__ void depthwise_transpose(
    const float* tile, int columns, int stride, const float (&taps)[K * K], int row, int column,
    int first_row, int first_column, float (&sums)[DEPTHWISE_GROUP]) {
    const int PAD = K / 2;
    const int STEP = S > 0 ? S : 1;
    const int WINDOW = (DEPTHWISE_GROUP - 1 + PAD) / STEP + PAD / STEP + 1;
    UNROLL for (int kh = 0; kh < K; kh++) {
        int up = row + PAD - kh;
        if (up % stride != 0) continue;
        const float* from = tile + (up / stride - first_row) * columns * WARP + COLUMN;
        if (S > 0) {
            int at = column / STEP - PAD / STEP - first_column;
            float window[WINDOW];
            UNROLL for (int i = 0; i < WINDOW; i++) window[i] = from[(at + i) * WARP];
            UNROLL for (int kw = 0; kw < K; kw++) {
                UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                    if ((m + PAD - kw) % STEP != 0) continue;
                    float value = window[(m + PAD - kw) / STEP + PAD / STEP];
                    sums[m] = fmaf(value, taps[kh * K + kw], sums[m]);
                }
            }
        } else {
            UNROLL for (int kw = 0; kw < K; kw++) {
                UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                    int left = column + m + PAD - kw;
                    if (left % stride != 0) continue;
                    float value = from[(left / stride - first_column) * WARP];
                    sums[m] = fmaf(value, taps[kh * K + kw], sums[m]);
                }
            }
        }
    }
}

// The first output that reads an input at or behind `input`.
static __device__ __forceinline__ int depthwise_first_output(int input, int stride, int pad) {
    return (input + stride - 1 + pad * (stride - 1)) / stride - pad;
}

template <int K, int S>
static __device__ __forceinline__ void depthwise_input_gradient(
    const float* dy, const DepthwiseNorm& norm, const float* filter, float* out, double* parts,
    float* tile, const DepthwiseShape& s) {
    SumPart block = rows_part(s.tiles, s.tiles_each, s.c);
    int j = block.j, stride = S > 0 ? S : s.stride;
    const DepthwiseNorm none = {0.0f, 1.0f, 0.0f, IDENTITY};
    float taps[K * K];
    depthwise_taps<K>(filter, j, s.c, taps);
    float sums[2] = {0.0f, 0.0f};
    for (int number = block.first; number < block.end; number++) {
        DepthwiseTile at = depthwise_tile(s, number);
        int first_row = depthwise_first_output(at.row, stride, K / 2);
        int first_column = depthwise_first_output(at.column, stride, K / 2);
        __syncthreads();
        depthwise_load(tile, dy + (size_t)at.image * s.oh * s.ow * s.c, none, s.oh, s.ow, s.c, j,
                       first_row, first_column, s.read_rows, s.read_columns);
        __syncthreads();
        for (int task = ROW; task < s.tile_rows << s.shift; task += ROWS) {
            DepthwiseGroup group = depthwise_group(s, at, task);
            if (group.count <= 0) continue;
            float d[DEPTHWISE_GROUP] = {0.0f, 0.0f, 0.0f, 0.0f};
            depthwise_transpose<K, S>(tile, s.read_columns, stride, taps, group.row, group.column,
                                      first_row, first_column, d);
            UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                if (m >= group.count || j >= s.c) continue;
                float* to = out + (group.pixel + m) * s.c + j;
                float q = d[m];
                if (parts) {
                    float z = *to;
                    q *= derivative(norm.function, fmaf(z, norm.scale, norm.shift));
                    sums[0] += q;
                    sums[1] = fmaf(q, z - norm.mean, sums[1]);
                }
                *to = q;
            }
        }
    }
    double* shared = reinterpret_cast<double*>(tile);
    if (parts) put_sums(sums, parts, block, s.c, shared, s.accumulate);
}

// out = da, the transposed convolution of dy. Where there are parts, `out` holds x W and gets
// q = da act'(u) in its place; sum q and sum q (z - mean) -> parts [part, 2, c].
template <int K>
static __device__ __forceinline__ void depthwise_input_gradient_of(
    const float* dy, const DepthwiseFront& front, const float* filter, float* out, double* parts,
    float* tile, const DepthwiseShape& s) {
    DepthwiseNorm norm = depthwise_norm(front, s.c);
    switch (s.stride) {
        case 1: return depthwise_input_gradient<K, 1>(dy, norm, filter, out, parts, tile, s);
        case 2: return depthwise_input_gradient<K, 2>(dy, norm, filter, out, parts, tile, s);
        default: return depthwise_input_gradient<K, 0>(dy, norm, filter, out, parts, tile, s);
    }
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_input_gradient_3(
    const float* dy, DepthwiseFront front, const float* filter, float* out, double* parts,
    DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_input_gradient_of<3>(dy, front, filter, out, parts, tile, s);
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_input_gradient_5(
    const float* dy, DepthwiseFront front, const float* filter, float* out, double* parts,
    DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_input_gradient_of<5>(dy, front, filter, out, parts, tile, s);
}

template <int K, int S>
static __device__ __forceinline__ void depthwise_filter_gradient(
    const float* x, const DepthwiseNorm& norm, const float* dy, double* parts, float* tile,
    const DepthwiseShape& s) {
    SumPart block = rows_part(s.tiles, s.tiles_each, s.c);
    int j = block.j, stride = S > 0 ? S : s.stride;
    float sums[K * K];
    UNROLL for (int t = 0; t < K * K; t++) sums[t] = 0.0f;
    for (int number = block.first; number < block.end; number++) {
        DepthwiseTile at = depthwise_load_input<K>(tile, x, norm, number, j, stride, s);
        for (int task = ROW; task < s.tile_rows << s.shift; task += ROWS) {
            DepthwiseGroup group = depthwise_group(s, at, task);
            if (group.count <= 0) continue;
            float d[DEPTHWISE_GROUP];
            UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                bool inside = m < group.count && j < s.c;
                d[m] = inside ? dy[(group.pixel + m) * s.c + j] : 0.0f;
            }
            UNROLL for (int kh = 0; kh < K; kh++) {
                DepthwiseRow<K, S> row(tile, at, group, kh, stride, s);
                UNROLL for (int kw = 0; kw < K; kw++) {
                    float& sum = sums[kh * K + kw];
                    UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                        sum = fmaf(row.value(m, kw), d[m], sum);
                    }
                }
            }
        }
    }
    double* shared = reinterpret_cast<double*>(tile);
    put_sums(sums, parts, block, s.c, shared, s.accumulate);
}

// The gradient of the filter, sum dy a with a = act(BN(x)) -> parts [part, K K, c].
template <int K>
static __device__ __forceinline__ void depthwise_filter_gradient_of(
    const float* x, const DepthwiseFront& front, const float* dy, double* parts, float* tile,
    const DepthwiseShape& s) {
    DepthwiseNorm norm = depthwise_norm(front, s.c);
    switch (s.stride) {
        case 1: return depthwise_filter_gradient<K, 1>(x, norm, dy, parts, tile, s);
        case 2: return depthwise_filter_gradient<K, 2>(x, norm, dy, parts, tile, s);
        default: return depthwise_filter_gradient<K, 0>(x, norm, dy, parts, tile, s);
    }
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_filter_gradient_3(
    const float* x, DepthwiseFront front, const float* dy, double* parts, DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_filter_gradient_of<3>(x, front, dy, parts, tile, s);
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_filter_gradient_5(
    const float* x, DepthwiseFront front, const float* dy, double* parts, DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_filter_gradient_of<5>(x, front, dy, parts, tile, s);
}
