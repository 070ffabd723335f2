// Cross-entropy with label smoothing.

// A warp takes one image: d loss / d logits, and the loss and whether the prediction is correct ->
// parts [n, 2]. Of equal logits the first is the prediction. An image counts by `share` for its own label,
// and by the rest for that at its place from the end. Smoothing and share are sums of two numbers.
extern "C" __global__ void cross_entropy(
    const float* logits, const float* labels, float* dlogits, double* parts, int n, int classes,
    float smoothing_high, float smoothing_low, float share_high, float share_low) {
    int image = blockIdx.x * ROWS + ROW, lane = COLUMN;
    if (image >= n) return;
    const float* x = logits + (size_t)image * classes;
    float* d = dlogits + (size_t)image * classes;
    int best = 0;
    float most = x[0];
    for (int k = lane; k < classes; k += WARP) {
        if (x[k] > most) {
            most = x[k];
            best = k;
        }
    }
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, most, offset);
        int index = __shfl_xor_sync(0xffffffffu, best, offset);
        if (other > most || (other == most && index < best)) {
            most = other;
            best = index;
        }
    }
    double sum = 0.0;
    for (int k = lane; k < classes; k += WARP) sum += exp((double)x[k] - most);
    double log_sum = log(warp_sum(sum)) + most;
    int label = (int)labels[image], other = (int)labels[n - 1 - image];
    double share = (double)share_high + share_low;
    double smoothing = (double)smoothing_high + smoothing_low;
    double uniform = smoothing / classes;
    double loss = 0.0;
    for (int k = lane; k < classes; k += WARP) {
        double log_p = (double)x[k] - log_sum;
        double at = (k == label ? share : 0.0) + (k == other ? 1.0 - share : 0.0);
        double q = uniform + at * (1.0 - smoothing);
        loss -= q * log_p;
        d[k] = (float)((exp(log_p) - q) / n);
    }
    loss = warp_sum(loss);
    if (lane == 0) {
        parts[2 * image] = loss;
        parts[2 * image + 1] = (best == label ? share : 0.0) + (best == other ? 1.0 - share : 0.0);
    }
}

// One block. Mean loss and number of correct predictions, each as a pair -> numbers [2, 2].
extern "C" __global__ void cross_entropy_total(const double* parts, float* numbers, int n) {
    SHARED(double, shared);
    double loss = 0.0, correct = 0.0;
    for (int image = threadIdx.x; image < n; image += blockDim.x) {
        loss += parts[2 * image] / n;
        correct += parts[2 * image + 1];
    }
    loss = block_sum(loss, shared);
    correct = block_sum(correct, shared);
    if (threadIdx.x == 0) {
        write_pair(loss, numbers);
        write_pair(correct, numbers + 2);
    }
}
