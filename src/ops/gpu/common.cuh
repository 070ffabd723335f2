// What every kernel may use. The compiler reads `cuda.cuh` or `emulator.h`, this file, then the kernels.
//
// A kernel is `extern "C" __global__ void NAME(…)`. Its parameters are pointers to float, double or
// unsigned int (const where it only reads), int, unsigned int or float numbers, and structs, large ones
// as BY_VALUE(type). Its working memory is `SHARED(float, name)`, whose size the host passes. Threads of
// a block differ in threadIdx.x only, and there are whole warps of them. A grid has at most 65,535 blocks
// in y, so that what has more goes into x, or a kernel loops over it. A kernel that needs more than 64
// registers declares how large its blocks are, `void __launch_bounds__(256, 1) NAME(…)`; `.ci/nvrtc`
// shows what each needs. Multiply-adds are written as fmaf, so that every compiler rounds alike. There
// are no atomics: a sum over a batch is taken part by part, then over the parts in order.

#define WARP 32

// The sum of a value over the threads of a warp, in every one of them. All 32 must call it.
template <class T>
static __device__ __forceinline__ T warp_sum(T value) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    }
    return value;
}

// The sum of a value over all threads of a block, in thread 0. `shared` has one double for each warp.
// All threads must call it.
static __device__ __forceinline__ double block_sum(double value, double* shared) {
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < int(blockDim.x / WARP); warp++) value += shared[warp];
    }
    return value;
}

// A number in f64 as the sum of two in f32, for a download.
static __device__ __forceinline__ void write_pair(double value, float* pair) {
    float high = (float)value, low = (float)(value - high);
    pair[0] = high;
    // Not of infinities, whose sum would be NaN.
    pair[1] = low - low == 0.0f ? low : 0.0f;
}

// A block as a matrix of threads: a column is a channel, a row a pixel.
#define COLUMN (threadIdx.x % WARP)
#define ROW (threadIdx.x / WARP)
#define ROWS (blockDim.x / WARP)

// Rows that a thread of a kernel with stores takes at once, so that their loads are under way together. The
// compiler must not move a load across a store by itself.
#define BATCH 4

// Adds up a value over the rows of a block, per column; the first row gets the sums. `shared` has one
// double for each thread. All threads must call it.
static __device__ __forceinline__ double column_sum(double value, double* shared) {
    __syncthreads();
    shared[threadIdx.x] = value;
    __syncthreads();
    if (ROW == 0) {
        for (int row = 1; row < int(ROWS); row++) value += shared[row * WARP + COLUMN];
    }
    return value;
}

// The rows that a block sums, of a map [rows, c]: from `first` up to `end`. Column j is this thread's
// channel. `number` is the row of the result. The grid has one dimension, since only x may exceed 65,535
// blocks: those for the channels of number 0, then those of number 1, ….
struct SumPart {
    int j, number, first, end;
};

static __device__ __forceinline__ SumPart sum_part_of(int c) {
    int blocks = (c + WARP - 1) / WARP;
    return {int(blockIdx.x % blocks * WARP + COLUMN), int(blockIdx.x / blocks), 0, 0};
}

// A part of all rows. `Parts` of sums.rs.
static __device__ __forceinline__ SumPart rows_part(int rows, int part_rows, int c) {
    SumPart part = sum_part_of(c);
    part.first = part.number * part_rows;
    part.end = min(part.first + part_rows, rows);
    return part;
}

// A part of the rows of one image: results are [part, image]. `ImageParts` of sums.rs.
static __device__ __forceinline__ SumPart image_part(int images, int pixels, int part_pixels, int c) {
    SumPart part = sum_part_of(c);
    int first = part.number / images * part_pixels;
    int image = part.number % images * pixels;
    part.first = image + first;
    part.end = image + min(first + part_pixels, pixels);
    return part;
}

// Writes the block's sums of N values per channel -> parts [part, N, c], or adds them where `accumulate`.
// `shared` has one double for each thread. All threads must call it.
template <int N>
static __device__ __forceinline__ void put_sums(
    const float (&values)[N], double* parts, const SumPart& part, int c, double* shared,
    bool accumulate = false) {
    double* to = parts + (size_t)part.number * N * c + part.j;
    UNROLL for (int n = 0; n < N; n++, to += c) {
        double sum = column_sum(values[n], shared);
        if (ROW == 0 && part.j < c) *to = accumulate ? *to + sum : sum;
    }
}

// Activation functions, numbered as the host numbers them.
#define IDENTITY 0
#define RELU 1
#define HSWISH 2
#define HSIGMOID 3
#define SWISH 4
#define SIGMOID 5
#define SIXTH (1.0f / 6.0f)

static __device__ __forceinline__ float clamp6(float u) {
    // Not fminf: it would turn NaN into a number and hide that a network diverged.
    return u < 0.0f ? 0.0f : u > 6.0f ? 6.0f : u;
}

// As `sigmoid` in `activation.rs`.
static __device__ __forceinline__ float sigmoid(float u) {
    float x = -u;
    // Comparisons keep NaN.
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float k = rintf(x * 1.442695041f);
    float r = (x - k * 0.6933594f) - k * -2.1219444e-4f;
    float power = 1.0f / 720.0f;
    power = power * r + 1.0f / 120.0f;
    power = power * r + 1.0f / 24.0f;
    power = power * r + 1.0f / 6.0f;
    power = power * r + 0.5f;
    power = power * r + 1.0f;
    power = power * r + 1.0f;
    return 1.0f / (1.0f + ldexpf(power, (int)k));
}

static __device__ __forceinline__ float activate(int function, float u) {
    switch (function) {
        case RELU: return u < 0.0f ? 0.0f : u;
        case HSWISH: return u * clamp6(u + 3.0f) * SIXTH;
        case HSIGMOID: return clamp6(u + 3.0f) * SIXTH;
        case SWISH: return u * sigmoid(u);
        case SIGMOID: return sigmoid(u);
        default: return u;
    }
}

static __device__ __forceinline__ float derivative(int function, float u) {
    switch (function) {
        case RELU: return u > 0.0f ? 1.0f : 0.0f;
        case HSWISH: return u <= -3.0f ? 0.0f : u >= 3.0f ? 1.0f : (2.0f * u + 3.0f) * SIXTH;
        case HSIGMOID: return u > -3.0f && u < 3.0f ? SIXTH : 0.0f;
        case SWISH: {
            float s = sigmoid(u);
            return s * (1.0f + u * (1.0f - s));
        }
        case SIGMOID: {
            float s = sigmoid(u);
            return s * (1.0f - s);
        }
        default: return 1.0f;
    }
}

// Many tensors in one launch, see `tensors.rs`. A block takes TENSOR_VALUES values of one of them.
#define MOST_TENSORS 1000
#define TENSOR_VALUES 1024

struct TensorEntry {
    // Three buffers of the same length, or null.
    float* x;
    float* y;
    float* z;
    unsigned int length;
    // The number of its first block in the grid.
    unsigned int first;
};

struct TensorList {
    TensorEntry entries[MOST_TENSORS];
    unsigned int count;
    unsigned int unused;
};

// The entry of this block.
static __device__ __forceinline__ unsigned int tensor_of_block(const TensorList& list) {
    unsigned int low = 0, high = list.count;
    while (high - low > 1) {
        unsigned int middle = (low + high) / 2;
        if (list.entries[middle].first <= blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

// The values of a tensor that this block takes: from `first` up to `end`.
static __device__ __forceinline__ void tensor_part(
    const TensorEntry& entry, unsigned int& first, unsigned int& end) {
    first = (blockIdx.x - entry.first) * TENSOR_VALUES;
    end = min(first + TENSOR_VALUES, entry.length);
}
