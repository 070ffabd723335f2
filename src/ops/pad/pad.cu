// The sum of maps of different widths.

#define PAD_PARTS 16

// Maps [rows, width].
struct PadParts {
    const float* part[PAD_PARTS];
    int width[PAD_PARTS];
    int count;
};

// y [rows, width] = the sum of the parts, each cut or padded with zeros to the width, or += where
// `accumulate`. A thread takes one channel of several rows.
extern "C" __global__ void pad_sum(PadParts parts, float* y, int accumulate, int rows, int width) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= width) return;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        float sum = accumulate ? y[(size_t)row * width + j] : 0.0f;
        for (int p = 0; p < parts.count; p++) {
            int c = parts.width[p];
            if (j < c) sum += parts.part[p][(size_t)row * c + j];
        }
        y[(size_t)row * width + j] = sum;
    }
}
