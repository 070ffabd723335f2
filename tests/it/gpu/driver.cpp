// A driver, a cuBLAS and a cuRAND without a GPU, for a program built with `--features cuda`: the
// functions that it calls. Memory is the host's, kernels run in the emulator, and everything is done when
// a call returns. So this checks what the program passes to the driver, but not the order of streams.
// `.ci/driver` builds it; `.ci/run` runs `repro doctor` with it.
//
// FAKE_DRIVER_CUDA=13000 and FAKE_DRIVER_COMPUTE=75 change what the GPU is, FAKE_DRIVER_MIB=64 how much
// memory it has. FAKE_DRIVER_TELL=1 shows every launch.

#include "emulator.cpp"

#include <atomic>
#include <map>
#include <mutex>

// The one kernel of candle's that `repro doctor` uses, for contiguous tensors.
__global__ void affine_f32(unsigned long long count, unsigned long long, const unsigned* strides, const float* x,
                           float* y, float factor, float summand) {
    unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x;
    if (strides == nullptr && i < count) y[i] = x[i] * factor + summand;
}
REGISTER(affine_f32)

namespace {

// Numbers of `cuda.h` and `cublas_api.h`.
constexpr int INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500;
constexpr int COMPUTE_MAJOR = 75, COMPUTE_MINOR = 76, USED_MEM_HIGH = 8;
constexpr int BLAS_INVALID_VALUE = 7, REAL_F32 = 0, COMPUTE_F32 = 68, COMPUTE_TF32 = 77;
constexpr size_t TOTAL = size_t(16) << 30;

std::mutex lock;
std::map<uint64_t, size_t> allocations;  // of the pool
uint64_t used = 0, high = 0;
bool told = getenv("FAKE_DRIVER_TELL") != nullptr;

int setting(const char* name, int otherwise) {
    const char* given = getenv(name);
    return given == nullptr ? otherwise : atoi(given);
}

[[noreturn]] void stop(const char* problem) {
    fprintf(stderr, "fake driver: %s\n", problem);
    abort();
}

void* memory(uint64_t address) { return reinterpret_cast<void*>(address); }

// A handle that nothing looks into.
int handle(void** out) {
    static std::atomic<uint64_t> next{1};
    *out = memory(next++);
    return 0;
}

void* host_memory(size_t bytes) { return aligned_alloc(4096, (bytes / 4096 + 1) * 4096); }

// Bytes that begin in an allocation of the pool must end in it.
void check(uint64_t address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return;
    auto [start, size] = *--after;
    if (address < start + size && address + bytes > start + size) stop("a copy beyond an allocation");
}

void copy(void* to, const void* from, size_t bytes) {
    check(reinterpret_cast<uint64_t>(to), bytes);
    check(reinterpret_cast<uint64_t>(from), bytes);
    memmove(to, from, bytes);
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return 0; }
// NVRTC asks for it.
int cuGetExportTable(const void**, const void*) { return NOT_FOUND; }
int cuDriverGetVersion(int* version) { return *version = setting("FAKE_DRIVER_CUDA", 13040), 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int n) { return *device = n, n == 0 ? 0 : INVALID_DEVICE; }
int cuDeviceGetName(char* name, int n, int) { return snprintf(name, n, "fake GPU"), 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = TOTAL, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    int compute = setting("FAKE_DRIVER_COMPUTE", 90);
    *value = attribute == COMPUTE_MAJOR ? compute / 10 : attribute == COMPUTE_MINOR ? compute % 10 : 1;
    return 0;
}
int cuGetErrorName(int error, const char** name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR";
    return 0;
}
int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }

int cuDevicePrimaryCtxRetain(void** context, int) { return handle(context); }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxGetCurrent(void** context) { return *context = nullptr, 0; }
int cuCtxSetCurrent(void*) { return 0; }
int cuCtxSynchronize() { return 0; }
int cuStreamCreate(void** stream, unsigned) { return handle(stream); }
int cuStreamDestroy_v2(void*) { return 0; }
int cuStreamSynchronize(void*) { return 0; }
int cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cuStreamIsCapturing(void*, int* status) { return *status = 0; }
int cuEventCreate(void** event, unsigned) { return handle(event); }
int cuEventDestroy_v2(void*) { return 0; }
int cuEventRecord(void*, void*) { return 0; }
int cuEventSynchronize(void*) { return 0; }

int cuMemGetInfo_v2(size_t* free, size_t* total) { return *free = TOTAL - used, *total = TOTAL, 0; }
// New and freed memory is NaN.
int cuMemAllocAsync(uint64_t* address, size_t bytes, void*) {
    std::lock_guard<std::mutex> guard(lock);
    if (used + bytes > uint64_t(setting("FAKE_DRIVER_MIB", 16384)) << 20) return OUT_OF_MEMORY;
    *address = reinterpret_cast<uint64_t>(aligned_alloc(256, (bytes / 256 + 1) * 256));
    memset(memory(*address), 0xff, bytes);
    allocations[*address] = bytes;
    high = std::max(high, used += bytes);
    return 0;
}
int cuMemFreeAsync(uint64_t address, void*) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = allocations.find(address);
    if (found == allocations.end()) stop("freed twice");
    memset(memory(address), 0xff, found->second);
    free(memory(address));
    used -= found->second;
    allocations.erase(found);
    return 0;
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    return *address = reinterpret_cast<uint64_t>(host_memory(bytes)), 0;
}
int cuMemFree_v2(uint64_t address) { return free(memory(address)), 0; }
int cuMemHostAlloc(void** out, size_t bytes, unsigned) { return *out = host_memory(bytes), 0; }
int cuMemFreeHost(void* address) { return free(address), 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) {
    return copy(memory(to), from, bytes), 0;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) {
    return copy(to, memory(from), bytes), 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void*) {
    return copy(memory(to), memory(from), bytes), 0;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void*) {
    check(to, bytes);
    return memset(memory(to), value, bytes), 0;
}

int cuDeviceGetDefaultMemPool(void** pool, int) { return handle(pool); }
int cuMemPoolGetAttribute(void*, int attribute, uint64_t* value) {
    std::lock_guard<std::mutex> guard(lock);
    return *value = attribute == USED_MEM_HIGH ? high : used, 0;
}
int cuMemPoolSetAttribute(void*, int attribute, uint64_t* value) {
    std::lock_guard<std::mutex> guard(lock);
    if (attribute == USED_MEM_HIGH) {
        if (*value != 0) return INVALID_VALUE;
        high = used;
    }
    return 0;
}

int cuModuleLoadData(void** module, const void*) { return handle(module); }
int cuModuleUnload(void*) { return 0; }
int cuModuleGetFunction(void** function, void*, const char* name) {
    *function = const_cast<emulator::Kernel*>(emulator::find(name));
    return *function == nullptr ? NOT_FOUND : 0;
}
int cuFuncGetParamInfo(void* function, size_t index, size_t*, size_t* size) {
    auto* kernel = static_cast<const emulator::Kernel*>(function);
    const size_t* sizes = kernel->sizes;
    for (size_t i = 0; sizes[i] != 0; i++) {
        if (i == index) return *size = sizes[i], 0;
    }
    return INVALID_VALUE;
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block, unsigned, unsigned,
                   unsigned shared, void*, void** parameters, void**) {
    auto* kernel = static_cast<const emulator::Kernel*>(function);
    if (told) fprintf(stderr, "%s <%u, %u, %u> <%u>\n", kernel->name, x, y, z, block);
    emulator::Launch launch{kernel, {x, y, z}, {block, 1, 1}, shared, 1};
    std::string problem = emulator::refusal(launch);
    if (problem.empty()) emulator::run_blocks(launch, parameters, 0, 1, problem);
    if (!problem.empty()) stop(problem.c_str());
    return 0;
}

int cublasCreate_v2(void** out) { return handle(out); }
int cublasDestroy_v2(void*) { return 0; }
int cublasSetStream_v2(void*, void*) { return 0; }
int cublasSetWorkspace_v2(void*, void* workspace, size_t bytes) {
    return workspace == nullptr || bytes == 0 ? BLAS_INVALID_VALUE : 0;
}
int cublasGemmEx(void*, int ta, int tb, int m, int n, int k, const float* alpha, const float* a,
                 int a_type, int lda, const float* b, int b_type, int ldb, const float* beta, float* c,
                 int c_type, int ldc, int compute, int) {
    bool types = a_type == REAL_F32 && b_type == REAL_F32 && c_type == REAL_F32;
    if (!types || (compute != COMPUTE_F32 && compute != COMPUTE_TF32)) return BLAS_INVALID_VALUE;
    if (told) fprintf(stderr, "gemm %d x %d x %d\n", m, n, k);
    // TF32 keeps ten bits of the mantissa.
    auto round = [&](float value) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (compute == COMPUTE_TF32) bits = (bits + 0x1000) & ~0x1fffu;
        memcpy(&value, &bits, sizeof bits);
        return value;
    };
    std::vector<float> sums(m);
    for (size_t j = 0; j < size_t(n); j++) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (size_t p = 0; p < size_t(k); p++) {
            float factor = round(b[tb ? j + p * ldb : p + j * ldb]);
            for (size_t i = 0; i < size_t(m); i++) {
                sums[i] += factor * round(a[ta ? p + i * lda : i + p * lda]);
            }
        }
        for (size_t i = 0; i < size_t(m); i++) {
            float& to = c[i + j * ldc];
            to = *alpha * sums[i] + (*beta == 0.0f ? 0.0f : *beta * to);
        }
    }
    return 0;
}

int curandCreateGenerator(void** generator, int) { return handle(generator); }
int curandDestroyGenerator(void*) { return 0; }
int curandSetStream(void*, void*) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }

}  // extern "C"
