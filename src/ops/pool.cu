// Global average pooling of x [n, pixels, c], with its gradient.

// `share` times the sum over one part of each image's pixels -> means [part, n, c]. A block takes 32
// channels of one part of one image.
extern "C" __global__ void pool_forward(
    const float* x, float* means, float share, int images, int pixels, int part_pixels, int c) {
    SHARED(double, shared);
    SumPart part = image_part(images, pixels, part_pixels, c);
    int j = part.j;
    float sum = 0.0f;
    if (j < c) {
        for (int row = part.first + ROW; row < part.end; row += ROWS) sum += x[(size_t)row * c + j];
    }
    double total = column_sum(sum, shared);
    if (ROW == 0 && j < c) means[(size_t)part.number * c + j] = (float)(total * share);
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
