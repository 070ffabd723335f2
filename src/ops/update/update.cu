// Updates in place: sums of gradients, and optimizers over all parameters at once.

// total += part.
extern "C" __global__ void accumulate(float* total, const float* part, unsigned int count) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        total[i] += part[i];
    }
}

// y = a + b.
extern "C" __global__ void sum_of_two(
    const float* a, const float* b, float* y, unsigned int count) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        y[i] = a[i] + b[i];
    }
}

// v = momentum v + scale g + decay w, then w -= rate v. x is g, y is v, z is w. Weight decay applies to
// the first `decaying` tensors. Without a scale it is one.
extern "C" __global__ void sgd_step(
    BY_VALUE(TensorList) list, const float* scale, unsigned int decaying, float rate,
    float momentum, float weight_decay) {
    unsigned int number = tensor_of_block(list);
    const TensorEntry& tensor = list.entries[number];
    float s = scale ? scale[0] : 1.0f;
    float decay = number < decaying ? weight_decay : 0.0f;
    unsigned int first, end;
    tensor_part(tensor, first, end);
    for (unsigned int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float w = tensor.z[i];
        float v = fmaf(momentum, tensor.y[i], fmaf(s, tensor.x[i], decay * w));
        tensor.y[i] = v;
        tensor.z[i] = fmaf(-rate, v, w);
    }
}

// g = scale g + decay w, q += share (g^2 - q), then g /= sqrt(q + epsilon). x is g, y is q, z is w. Weight
// decay applies to the first `decaying` tensors. Without a scale it is one.
extern "C" __global__ void rmsprop_scale(
    BY_VALUE(TensorList) list, const float* scale, unsigned int decaying, float share, float epsilon,
    float weight_decay) {
    unsigned int number = tensor_of_block(list);
    const TensorEntry& tensor = list.entries[number];
    float s = scale ? scale[0] : 1.0f;
    float decay = number < decaying ? weight_decay : 0.0f;
    unsigned int first, end;
    tensor_part(tensor, first, end);
    for (unsigned int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float g = fmaf(s, tensor.x[i], decay * tensor.z[i]);
        float q = tensor.y[i];
        q = fmaf(share, fmaf(g, g, -q), q);
        tensor.y[i] = q;
        tensor.x[i] = g / sqrtf(q + epsilon);
    }
}

// v = momentum v + rate g, then w -= v. x is g, y is v, z is w.
extern "C" __global__ void rmsprop_move(BY_VALUE(TensorList) list, float momentum, float rate) {
    const TensorEntry& tensor = list.entries[tensor_of_block(list)];
    unsigned int first, end;
    tensor_part(tensor, first, end);
    for (unsigned int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float v = fmaf(momentum, tensor.y[i], rate * tensor.x[i]);
        tensor.y[i] = v;
        tensor.z[i] -= v;
    }
}

// y += share (x - y).
extern "C" __global__ void average_tensors(BY_VALUE(TensorList) list, float share) {
    const TensorEntry& tensor = list.entries[tensor_of_block(list)];
    unsigned int first, end;
    tensor_part(tensor, first, end);
    for (unsigned int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float y = tensor.y[i];
        tensor.y[i] = fmaf(share, tensor.x[i] - y, y);
    }
}

// z = x + factor y, or x where there is no y.
extern "C" __global__ void moved_tensors(BY_VALUE(TensorList) list, float factor) {
    const TensorEntry& tensor = list.entries[tensor_of_block(list)];
    unsigned int first, end;
    tensor_part(tensor, first, end);
    for (unsigned int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float x = tensor.x[i];
        tensor.z[i] = tensor.y ? fmaf(factor, tensor.y[i], x) : x;
    }
}

// Sum x^2 of the values of each block -> parts [block].
extern "C" __global__ void squares_of_tensors(BY_VALUE(TensorList) list, double* parts) {
    SHARED(double, shared);
    const TensorEntry& tensor = list.entries[tensor_of_block(list)];
    unsigned int first, end;
    tensor_part(tensor, first, end);
    double sum = 0.0;
    for (unsigned int i = first + threadIdx.x; i < end; i += blockDim.x) {
        double x = tensor.x[i];
        sum += x * x;
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// One block. The sum of all parts, as a pair; and the factor that clips its root to `bound`: one where
// it is not above, or not a number.
extern "C" __global__ void finish_squares(
    const double* parts, float* pair, float* scale, unsigned int count, float bound) {
    SHARED(double, shared);
    double sum = 0.0;
    for (unsigned int i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x != 0) return;
    if (pair) write_pair(sum, pair);
    double norm = sqrt(sum);
    if (scale) scale[0] = norm > bound ? (float)(bound / norm) : 1.0f;
}
