// Bias and activation of a matrix [rows, c], with its gradient.

// y = act(x + bias).
extern "C" __global__ void bias_forward(
    const float* x, const float* bias, float* y, int function, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float b = bias ? bias[j] : 0.0f;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        y[i] = activate(function, x[i] + b);
    }
}

// dx = dy act'(x + bias).
extern "C" __global__ void bias_backward(
    const float* x, const float* bias, const float* dy, float* dx, int function, int rows, int c) {
    int j = blockIdx.x * WARP + COLUMN;
    if (j >= c) return;
    float b = bias ? bias[j] : 0.0f;
    for (int row = blockIdx.y * ROWS + ROW; row < rows; row += gridDim.y * ROWS) {
        size_t i = (size_t)row * c + j;
        dx[i] = dy[i] * derivative(function, x[i] + b);
    }
}
