// Dense k x k convolution of x [n, h, w, c] with padding k / 2: directly where there are few input
// channels, otherwise the steps before and behind a matrix product.

#define CONV_CHANNELS 16  // of the output, per block
#define CONV_PIXELS 4     // per thread

// y [rows, c_out] for a filter [k k, c, c_out]; a row is a pixel of the output. A block takes 16
// channels, whose filter is in shared memory, of 256 pixels; a thread takes four channels of every 64th
// pixel, so that its registers reuse each value four times and a warp writes whole sectors. Positions in
// x are ints.
extern "C" __global__ void __launch_bounds__(256) conv_direct(
    const float* x, const float* filter, float* y, int rows, int h, int w, int c, int k, int stride,
    int oh, int ow, int c_out) {
    SHARED(float, shared);
    int depth = k * k * c;
    int first = blockIdx.y * CONV_CHANNELS;
    for (int i = threadIdx.x; i < depth * CONV_CHANNELS; i += blockDim.x) {
        int j = first + i % CONV_CHANNELS;
        shared[i] = j < c_out ? filter[(size_t)(i / CONV_CHANNELS) * c_out + j] : 0.0f;
    }
    __syncthreads();
    const int quads = CONV_CHANNELS / 4;
    int quad = threadIdx.x % quads;
    int slots = blockDim.x / quads;
    int slot = blockIdx.x * slots * CONV_PIXELS + threadIdx.x / quads;
    // The first row and column of each pixel's window, and where they are in x.
    int top[CONV_PIXELS], left[CONV_PIXELS], corner[CONV_PIXELS];
    float4 sums[CONV_PIXELS];
    UNROLL for (int p = 0; p < CONV_PIXELS; p++) {
        int row = min(slot + p * slots, rows - 1);
        int line = row / ow;
        left[p] = (row - line * ow) * stride - k / 2;
        int image = line / oh;
        top[p] = (line - image * oh) * stride - k / 2;
        corner[p] = ((image * h + top[p]) * w + left[p]) * c;
        sums[p] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    const float4* taps = reinterpret_cast<const float4*>(shared) + quad;
    for (int down = 0; down < k; down++) {
        for (int right = 0; right < k; right++) {
            bool inside[CONV_PIXELS];
            UNROLL for (int p = 0; p < CONV_PIXELS; p++) {
                int i = top[p] + down, j = left[p] + right;
                inside[p] = i >= 0 && i < h && j >= 0 && j < w;
            }
            const float* from = x + (down * w + right) * c;
            for (int channel = 0; channel < c; channel++, taps += quads) {
                float4 tap = *taps;
                UNROLL for (int p = 0; p < CONV_PIXELS; p++) {
                    float value = inside[p] ? from[corner[p] + channel] : 0.0f;
                    sums[p].x = fmaf(value, tap.x, sums[p].x);
                    sums[p].y = fmaf(value, tap.y, sums[p].y);
                    sums[p].z = fmaf(value, tap.z, sums[p].z);
                    sums[p].w = fmaf(value, tap.w, sums[p].w);
                }
            }
        }
    }
    int j = first + 4 * quad;
    UNROLL for (int p = 0; p < CONV_PIXELS; p++) {
        int row = slot + p * slots;
        if (row >= rows || j >= c_out) continue;
        float* to = y + (size_t)row * c_out + j;
        if (c_out % 4 == 0) {
            *reinterpret_cast<float4*>(to) = sums[p];
        } else {
            to[0] = sums[p].x;
            if (j + 1 < c_out) to[1] = sums[p].y;
            if (j + 2 < c_out) to[2] = sums[p].z;
            if (j + 3 < c_out) to[3] = sums[p].w;
        }
    }
}

// The window of each pixel of the output -> windows [rows, k k c]. A thread takes one column of several
// rows.
extern "C" __global__ void conv_windows(
    const float* x, float* windows, int rows, int h, int w, int c, int k, int stride, int oh, int ow) {
    int depth = k * k * c;
    int column = blockIdx.x * WARP + COLUMN;
    if (column >= depth) return;
    int tap = column / c;
    int down = tap / k - k / 2, right = tap % k - k / 2;
    const float* from = x + (column - tap * c);
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        int line = row / ow;
        int image = line / oh;
        int i = (line - image * oh) * stride + down, j = (row - line * ow) * stride + right;
        bool inside = i >= 0 && i < h && j >= 0 && j < w;
        float value = inside ? from[((size_t)(image * h + i) * w + j) * c] : 0.0f;
        windows[(size_t)row * depth + column] = value;
    }
}

// dx [rows, c] from the gradients of the windows: a row is a pixel of the input, which adds up its place
// in every window that has it. A thread takes one channel of several pixels.
extern "C" __global__ void conv_gather(
    const float* windows, float* dx, int rows, int h, int w, int c, int k, int stride, int oh, int ow) {
    int channel = blockIdx.x * WARP + COLUMN;
    if (channel >= c) return;
    size_t depth = (size_t)k * k * c;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        int line = row / w;
        int image = line / h;
        int bottom = line - image * h + k / 2, end = row - line * w + k / 2;
        float sum = 0.0f;
        for (int down = 0; down < k; down++) {
            int i = (bottom - down) / stride;
            if (bottom < down || i * stride != bottom - down || i >= oh) continue;
            for (int right = 0; right < k; right++) {
                int j = (end - right) / stride;
                if (end < right || j * stride != end - right || j >= ow) continue;
                size_t window = (size_t)(image * oh + i) * ow + j;
                sum += windows[window * depth + (down * k + right) * c + channel];
            }
        }
        dx[(size_t)row * c + channel] = sum;
    }
}
