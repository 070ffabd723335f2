// Depthwise convolution of channels-last maps [n, h, w, c], its transpose and its filter's gradient,
// each with the batch norm and activation of an expansion in front. Formulas and names are those of
// `depthwise.rs`; pad = K / 2.
//
// A block takes 32 channels (a lane each) of several tiles of a map, one after the other. It loads what
// the filter reads into shared memory as [rows, columns, 32], applying batch norm and activation, and
// each of its warps computes groups of four adjacent pixels.

#define DEPTHWISE_GROUP 4

// Tiles after which sums in f32 are added up in f64.
#define DEPTHWISE_FLUSH 16

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

// Scale and shift of a batch norm for one channel, and the activation behind it.
struct DepthwiseNorm {
    float mean, scale, shift;
    int function;
};

static __device__ __forceinline__ DepthwiseNorm depthwise_norm(
    const float* mean, const float* inverse, const float* gamma, const float* beta, int function,
    int j, int c) {
    DepthwiseNorm norm = {0.0f, 1.0f, 0.0f, IDENTITY};
    if (mean && j < c) {
        norm.mean = mean[j];
        norm.scale = gamma[j] * inverse[j];
        norm.shift = beta[j] - norm.mean * norm.scale;
        norm.function = function;
    }
    return norm;
}

// One tile: its image and its first pixel.
struct DepthwiseTile {
    int image, row, column;
};

static __device__ __forceinline__ DepthwiseTile depthwise_tile(const DepthwiseShape& s, int number) {
    int across = number % s.tiles_across;
    int rest = number / s.tiles_across;
    return {rest / s.tiles_down, rest % s.tiles_down * s.tile_rows, across * (DEPTHWISE_GROUP << s.shift)};
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

// Adds the convolution at four adjacent outputs, the first of which reads the tile from `from`. S is
// the stride, or 0 if it is another than 1 and 2.
template <int K, int S>
static __device__ __forceinline__ void depthwise_convolve(
    const float* from, int columns, int stride, const float (&taps)[K * K], float (&sums)[DEPTHWISE_GROUP]) {
    UNROLL for (int kh = 0; kh < K; kh++) {
        const float* row = from + kh * columns * WARP;
        if (S > 0) {
            float window[(DEPTHWISE_GROUP - 1) * S + K];
            UNROLL for (int i = 0; i < (DEPTHWISE_GROUP - 1) * S + K; i++) window[i] = row[i * WARP];
            UNROLL for (int kw = 0; kw < K; kw++) {
                UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                    sums[m] = fmaf(window[m * S + kw], taps[kh * K + kw], sums[m]);
                }
            }
        } else {
            UNROLL for (int kw = 0; kw < K; kw++) {
                UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                    float value = row[(m * stride + kw) * WARP];
                    sums[m] = fmaf(value, taps[kh * K + kw], sums[m]);
                }
            }
        }
    }
}

// Writes two sums of a block -> parts [blockIdx.y, 2, c], or adds them.
static __device__ __forceinline__ void depthwise_put_sums(
    double first, double second, double* parts, double* shared, int j, const DepthwiseShape& s) {
    first = column_sum(first, shared);
    second = column_sum(second, shared);
    if (ROW == 0 && j < s.c) {
        double* to = parts + (size_t)blockIdx.y * 2 * s.c;
        to[j] = first + (s.accumulate ? to[j] : 0.0);
        to[s.c + j] = second + (s.accumulate ? to[s.c + j] : 0.0);
    }
}

// The sum of a value and of its product with a factor, in f32, added up in f64 from time to time.
struct DepthwiseSums {
    float first, second;
    double first_total, second_total;
    int tiles;

    __device__ __forceinline__ void add(float value, float factor) {
        first += value;
        second = fmaf(value, factor, second);
    }
    __device__ __forceinline__ void flush() {
        first_total += first;
        second_total += second;
        first = second = 0.0f;
        tiles = 0;
    }
    __device__ __forceinline__ void end_tile() {
        if (++tiles == DEPTHWISE_FLUSH) flush();
    }
};

template <int K, int S>
static __device__ __forceinline__ void depthwise_forward(
    const float* x, const DepthwiseNorm& norm, const float* filter, float* y, double* parts,
    float* tile, const DepthwiseShape& s) {
    int j = blockIdx.x * WARP + COLUMN;
    float taps[K * K];
    depthwise_taps<K>(filter, j, s.c, taps);
    DepthwiseSums sums = {0.0f, 0.0f, 0.0, 0.0, 0};
    int stride = S > 0 ? S : s.stride;
    int end = min(int(blockIdx.y + 1) * s.tiles_each, s.tiles);
    for (int number = blockIdx.y * s.tiles_each; number < end; number++) {
        DepthwiseTile at = depthwise_tile(s, number);
        __syncthreads();
        depthwise_load(tile, x + (size_t)at.image * s.h * s.w * s.c, norm, s.h, s.w, s.c, j,
                       at.row * stride - K / 2, at.column * stride - K / 2, s.read_rows,
                       s.read_columns);
        __syncthreads();
        for (int task = ROW; task < s.tile_rows << s.shift; task += ROWS) {
            int row = task >> s.shift;
            int column = (task & ((1 << s.shift) - 1)) * DEPTHWISE_GROUP;
            if (at.row + row >= s.oh || at.column + column >= s.ow) continue;
            float z[DEPTHWISE_GROUP] = {0.0f, 0.0f, 0.0f, 0.0f};
            const float* from = tile + (row * s.read_columns + column) * stride * WARP + COLUMN;
            depthwise_convolve<K, S>(from, s.read_columns, stride, taps, z);
            size_t pixel = (size_t)at.image * s.oh * s.ow + (at.row + row) * s.ow + at.column + column;
            UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                if (at.column + column + m >= s.ow || j >= s.c) continue;
                y[(pixel + m) * s.c + j] = z[m];
                sums.add(z[m], z[m]);
            }
        }
        sums.end_tile();
    }
    if (parts) {
        sums.flush();
        double* shared = reinterpret_cast<double*>(tile);
        depthwise_put_sums(sums.first_total, sums.second_total, parts, shared, j, s);
    }
}

// y = depthwise(act(BN(x))), without the norm where there is no mean; sum y and sum y^2 -> parts
// [part, 2, c].
template <int K>
static __device__ __forceinline__ void depthwise_forward_of(
    const float* x, const float* mean, const float* inverse, const float* gamma, const float* beta,
    int function, const float* filter, float* y, double* parts, float* tile,
    const DepthwiseShape& s) {
    int j = blockIdx.x * WARP + COLUMN;
    DepthwiseNorm norm = depthwise_norm(mean, inverse, gamma, beta, function, j, s.c);
    switch (s.stride) {
        case 1: return depthwise_forward<K, 1>(x, norm, filter, y, parts, tile, s);
        case 2: return depthwise_forward<K, 2>(x, norm, filter, y, parts, tile, s);
        default: return depthwise_forward<K, 0>(x, norm, filter, y, parts, tile, s);
    }
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_forward_3(
    const float* x, const float* mean, const float* inverse, const float* gamma, const float* beta,
    int function, const float* filter, float* y, double* parts, DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_forward_of<3>(x, mean, inverse, gamma, beta, function, filter, y, parts, tile, s);
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_forward_5(
    const float* x, const float* mean, const float* inverse, const float* gamma, const float* beta,
    int function, const float* filter, float* y, double* parts, DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_forward_of<5>(x, mean, inverse, gamma, beta, function, filter, y, parts, tile, s);
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
    const float* dy, const DepthwiseNorm& norm, bool expanded, const float* filter, float* out,
    double* parts, float* tile, const DepthwiseShape& s) {
    int j = blockIdx.x * WARP + COLUMN;
    const DepthwiseNorm none = {0.0f, 1.0f, 0.0f, IDENTITY};
    float taps[K * K];
    depthwise_taps<K>(filter, j, s.c, taps);
    DepthwiseSums sums = {0.0f, 0.0f, 0.0, 0.0, 0};
    int stride = S > 0 ? S : s.stride;
    int end = min(int(blockIdx.y + 1) * s.tiles_each, s.tiles);
    for (int number = blockIdx.y * s.tiles_each; number < end; number++) {
        DepthwiseTile at = depthwise_tile(s, number);
        int first_row = depthwise_first_output(at.row, stride, K / 2);
        int first_column = depthwise_first_output(at.column, stride, K / 2);
        __syncthreads();
        depthwise_load(tile, dy + (size_t)at.image * s.oh * s.ow * s.c, none, s.oh, s.ow, s.c, j,
                       first_row, first_column, s.read_rows, s.read_columns);
        __syncthreads();
        for (int task = ROW; task < s.tile_rows << s.shift; task += ROWS) {
            int row = at.row + (task >> s.shift);
            int column = at.column + (task & ((1 << s.shift) - 1)) * DEPTHWISE_GROUP;
            if (row >= s.h || column >= s.w) continue;
            float d[DEPTHWISE_GROUP] = {0.0f, 0.0f, 0.0f, 0.0f};
            depthwise_transpose<K, S>(tile, s.read_columns, stride, taps, row, column, first_row,
                                      first_column, d);
            size_t pixel = (size_t)at.image * s.h * s.w + row * s.w + column;
            UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                if (column + m >= s.w || j >= s.c) continue;
                float* to = out + (pixel + m) * s.c + j;
                float q = d[m];
                if (expanded) {
                    float z = *to;
                    q *= derivative(norm.function, fmaf(z, norm.scale, norm.shift));
                    sums.add(q, z - norm.mean);
                }
                *to = q;
            }
        }
        sums.end_tile();
    }
    if (expanded) {
        sums.flush();
        double* shared = reinterpret_cast<double*>(tile);
        depthwise_put_sums(sums.first_total, sums.second_total, parts, shared, j, s);
    }
}

// out = da, the transposed convolution of dy. With a norm, `out` holds x W and gets q = da act'(u) in
// its place; sum q and sum q (z - mean) -> parts [part, 2, c].
template <int K>
static __device__ __forceinline__ void depthwise_input_gradient_of(
    const float* dy, const float* mean, const float* inverse, const float* gamma,
    const float* beta, int function, const float* filter, float* out, double* parts, float* tile,
    const DepthwiseShape& s) {
    int j = blockIdx.x * WARP + COLUMN;
    DepthwiseNorm norm = depthwise_norm(mean, inverse, gamma, beta, function, j, s.c);
    bool expanded = mean != nullptr;
    switch (s.stride) {
        case 1:
            return depthwise_input_gradient<K, 1>(dy, norm, expanded, filter, out, parts, tile, s);
        case 2:
            return depthwise_input_gradient<K, 2>(dy, norm, expanded, filter, out, parts, tile, s);
        default:
            return depthwise_input_gradient<K, 0>(dy, norm, expanded, filter, out, parts, tile, s);
    }
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_input_gradient_3(
    const float* dy, const float* mean, const float* inverse, const float* gamma,
    const float* beta, int function, const float* filter, float* out, double* parts,
    DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_input_gradient_of<3>(
        dy, mean, inverse, gamma, beta, function, filter, out, parts, tile, s);
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_input_gradient_5(
    const float* dy, const float* mean, const float* inverse, const float* gamma,
    const float* beta, int function, const float* filter, float* out, double* parts,
    DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_input_gradient_of<5>(
        dy, mean, inverse, gamma, beta, function, filter, out, parts, tile, s);
}

template <int K, int S>
static __device__ __forceinline__ void depthwise_filter_gradient(
    const float* x, const DepthwiseNorm& norm, const float* dy, double* parts, float* tile,
    const DepthwiseShape& s) {
    int j = blockIdx.x * WARP + COLUMN;
    float sums[K * K];
    UNROLL for (int t = 0; t < K * K; t++) sums[t] = 0.0f;
    int stride = S > 0 ? S : s.stride;
    int end = min(int(blockIdx.y + 1) * s.tiles_each, s.tiles);
    for (int number = blockIdx.y * s.tiles_each; number < end; number++) {
        DepthwiseTile at = depthwise_tile(s, number);
        __syncthreads();
        depthwise_load(tile, x + (size_t)at.image * s.h * s.w * s.c, norm, s.h, s.w, s.c, j,
                       at.row * stride - K / 2, at.column * stride - K / 2, s.read_rows,
                       s.read_columns);
        __syncthreads();
        for (int task = ROW; task < s.tile_rows << s.shift; task += ROWS) {
            int row = task >> s.shift;
            int column = (task & ((1 << s.shift) - 1)) * DEPTHWISE_GROUP;
            if (at.row + row >= s.oh || at.column + column >= s.ow) continue;
            size_t pixel = (size_t)at.image * s.oh * s.ow + (at.row + row) * s.ow + at.column + column;
            float d[DEPTHWISE_GROUP];
            UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                bool inside = at.column + column + m < s.ow && j < s.c;
                d[m] = inside ? dy[(pixel + m) * s.c + j] : 0.0f;
            }
            const float* from = tile + (row * s.read_columns + column) * stride * WARP + COLUMN;
            UNROLL for (int kh = 0; kh < K; kh++) {
                const float* row_from = from + kh * s.read_columns * WARP;
                if (S > 0) {
                    float window[(DEPTHWISE_GROUP - 1) * S + K];
                    UNROLL for (int i = 0; i < (DEPTHWISE_GROUP - 1) * S + K; i++) {
                        window[i] = row_from[i * WARP];
                    }
                    UNROLL for (int kw = 0; kw < K; kw++) {
                        float& sum = sums[kh * K + kw];
                        UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                            sum = fmaf(window[m * S + kw], d[m], sum);
                        }
                    }
                } else {
                    UNROLL for (int kw = 0; kw < K; kw++) {
                        float& sum = sums[kh * K + kw];
                        UNROLL for (int m = 0; m < DEPTHWISE_GROUP; m++) {
                            sum = fmaf(row_from[(m * stride + kw) * WARP], d[m], sum);
                        }
                    }
                }
            }
        }
    }
    double* shared = reinterpret_cast<double*>(tile);
    UNROLL for (int t = 0; t < K * K; t++) {
        double total = column_sum(sums[t], shared);
        if (ROW == 0 && j < s.c) {
            double* to = parts + ((size_t)blockIdx.y * K * K + t) * s.c + j;
            *to = total + (s.accumulate ? *to : 0.0);
        }
    }
}

// The gradient of the filter, sum dy a with a = act(BN(x)) -> parts [part, K K, c].
template <int K>
static __device__ __forceinline__ void depthwise_filter_gradient_of(
    const float* x, const float* mean, const float* inverse, const float* gamma, const float* beta,
    int function, const float* dy, double* parts, float* tile, const DepthwiseShape& s) {
    int j = blockIdx.x * WARP + COLUMN;
    DepthwiseNorm norm = depthwise_norm(mean, inverse, gamma, beta, function, j, s.c);
    switch (s.stride) {
        case 1: return depthwise_filter_gradient<K, 1>(x, norm, dy, parts, tile, s);
        case 2: return depthwise_filter_gradient<K, 2>(x, norm, dy, parts, tile, s);
        default: return depthwise_filter_gradient<K, 0>(x, norm, dy, parts, tile, s);
    }
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_filter_gradient_3(
    const float* x, const float* mean, const float* inverse, const float* gamma, const float* beta,
    int function, const float* dy, double* parts, DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_filter_gradient_of<3>(x, mean, inverse, gamma, beta, function, dy, parts, tile, s);
}

extern "C" __global__ void __launch_bounds__(256, 1) depthwise_filter_gradient_5(
    const float* x, const float* mean, const float* inverse, const float* gamma, const float* beta,
    int function, const float* dy, double* parts, DepthwiseShape s) {
    SHARED(float, tile);
    depthwise_filter_gradient_of<5>(x, mean, inverse, gamma, beta, function, dy, parts, tile, s);
}

// Sums in f64 -> gradient.
extern "C" __global__ void depthwise_round(const double* sums, float* gradient, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) gradient[i] = (float)sums[i];
}
