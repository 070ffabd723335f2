// Copies of many tensors, and constant rows.

// y = x.
extern "C" __global__ void copy_tensors(BY_VALUE(TensorList) list) {
    const TensorEntry& tensor = list.entries[tensor_of_block(list)];
    unsigned int first, end;
    tensor_part(tensor, first, end);
    for (unsigned int i = first + threadIdx.x; i < end; i += blockDim.x) tensor.y[i] = tensor.x[i];
}

// x = value, `count` times.
extern "C" __global__ void fill_row(float* x, float value, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = value;
}
