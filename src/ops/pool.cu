// Global average pooling of x [n, pixels, c], with its gradient.

// `share` times the sum over one part of each image's pixels -> means [part, n, c]. A block takes 32
// channels of one part of one image.
extern "C" __global__ void pool_forward(
    const float* x, float* means, float share, int pixels, int part_pixels, int c) {
    SHARED(double, shared);
    int j = blockIdx.x * WARP + COLUMN;
    int image = blockIdx.y, images = gridDim.y;
    int first = blockIdx.z * part_pixels;
    int end = min(first + part_pixels, pixels);
    float sum = 0.0f;
    if (j < c) {
        const float* from = x + (size_t)image * pixels * c + j;
        for (int pixel = first + ROW; pixel < end; pixel += ROWS) sum += from[(size_t)pixel * c];
    }
    double total = column_sum(sum, shared);
    if (ROW == 0 && j < c) {
        means[((size_t)blockIdx.z * images + image) * c + j] = (float)(total * share);
    }
}

// Every pixel gets an equal share: dx [n, pixels, c] = share dy [n, c].
extern "C" __global__ void pool_backward(
    const float* dy, float* dx, float share, int pixels, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        dx[(size_t)row * c + j] = share * dy[(size_t)(row / pixels) * c + j];
    }
}
