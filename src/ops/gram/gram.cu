// Covariance of the channels of a map x [rows, c], and the moments behind a matrix.

// Rows that a block loads at once, and the side of its square of products.
#define GRAM_ROWS 32
#define GRAM_SIDE 32

// Rows whose products are summed in f32 before they are added up in f64.
#define GRAM_FLUSH 1024

// Products of the centred values of 32 x 32 channels over one part of the rows -> parts [part, c, c].
// blockIdx.x counts the squares on and below the diagonal; each is also written to its mirror image.
// A thread sums four products.
extern "C" __global__ void gram_products(
    const float* x, const float* mean, double* parts, int rows, int c, int part_rows) {
    SHARED(float, left);
    int across = blockIdx.x, down = 0;
    while (across > down) across -= ++down;
    float* right = across == down ? left : left + GRAM_ROWS * GRAM_SIDE;
    int i = down * GRAM_SIDE + COLUMN, j = across * GRAM_SIDE + COLUMN;
    float mean_i = i < c ? mean[i] : 0.0f, mean_j = j < c ? mean[j] : 0.0f;
    int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float sums[2][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}};
    double totals[2][2] = {{0.0, 0.0}, {0.0, 0.0}};
    int begin = blockIdx.y * part_rows;
    int end = min(begin + part_rows, rows);
    for (int first = begin; first < end; first += GRAM_ROWS) {
        __syncthreads();
        for (int r = ROW; r < GRAM_ROWS; r += ROWS) {
            const float* from = x + (size_t)(first + r) * c;
            bool inside = first + r < end;
            left[r * GRAM_SIDE + COLUMN] = inside && i < c ? from[i] - mean_i : 0.0f;
            if (across != down) {
                right[r * GRAM_SIDE + COLUMN] = inside && j < c ? from[j] - mean_j : 0.0f;
            }
        }
        __syncthreads();
        for (int r = 0; r < GRAM_ROWS; r++) {
            const float* a = left + r * GRAM_SIDE + ty;
            const float* b = right + r * GRAM_SIDE + tx;
            UNROLL for (int m = 0; m < 2; m++) {
                UNROLL for (int n = 0; n < 2; n++) {
                    sums[m][n] = fmaf(a[16 * m], b[16 * n], sums[m][n]);
                }
            }
        }
        int next = first + GRAM_ROWS;
        if ((next - begin) % GRAM_FLUSH != 0 && next < end) continue;
        UNROLL for (int m = 0; m < 2; m++) {
            UNROLL for (int n = 0; n < 2; n++) {
                totals[m][n] += sums[m][n];
                sums[m][n] = 0.0f;
            }
        }
    }
    double* to = parts + (size_t)blockIdx.y * c * c;
    UNROLL for (int m = 0; m < 2; m++) {
        UNROLL for (int n = 0; n < 2; n++) {
            int row = down * GRAM_SIDE + ty + 16 * m, column = across * GRAM_SIDE + tx + 16 * n;
            if (row >= c || column >= c) continue;
            to[(size_t)row * c + column] = totals[m][n];
            if (across != down) to[(size_t)column * c + row] = totals[m][n];
        }
    }
}

// mean [c] and product = covariance w [c, c_out] -> mean w and diag(w^T covariance w) [c_out]. A block
// takes 32 columns.
extern "C" __global__ void gram_moments(
    const float* mean, const float* product, const float* w, float* mean_out, float* variance,
    int c, int c_out) {
    SHARED(double, shared);
    int j = blockIdx.x * WARP + COLUMN;
    double first = 0.0, second = 0.0;
    if (j < c_out) {
        for (int i = ROW; i < c; i += ROWS) {
            double factor = w[(size_t)i * c_out + j];
            first += factor * mean[i];
            second += factor * product[(size_t)i * c_out + j];
        }
    }
    first = column_sum(first, shared);
    second = column_sum(second, shared);
    if (ROW == 0 && j < c_out) {
        mean_out[j] = (float)first;
        variance[j] = second < 0.0 ? 0.0f : (float)second;
    }
}
