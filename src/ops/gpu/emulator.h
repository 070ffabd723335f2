// CUDA's built-ins and `cuda.cuh`, for a C++ compiler. The threads of a block are fibres of one thread
// of the processor; see `emulator.cpp`.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };

static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulator {

// Where a fibre is. One block runs on one thread of the processor.
struct Position {
    uint3 thread;
    uint3 block;
    dim3 block_dim;
    dim3 grid_dim;
    unsigned char* shared;
};
extern thread_local Position position;

// Waits for all threads of the block.
void barrier();

// Gives each thread of a warp the value of another lane; all 32 must call it.
uint64_t exchange(uint64_t value, unsigned lane);

template <class T>
T shuffle(T value, unsigned lane) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = exchange(bits, lane);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}

inline unsigned lane() { return position.thread.x % 32; }

}  // namespace emulator

#define threadIdx (emulator::position.thread)
#define blockIdx (emulator::position.block)
#define blockDim (emulator::position.block_dim)
#define gridDim (emulator::position.grid_dim)

#define SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::position.shared)
#define BY_VALUE(type) const type&

#define UNROLL

static inline void __syncthreads() { emulator::barrier(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    return emulator::shuffle(value, emulator::lane() ^ mask);
}

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }

namespace emulator {

// One argument of a launch, as the host passes it.
struct Argument {
    // r: a buffer that is read; w: one that is written; 0: no buffer; i, u, f: a number; p: a struct of
    // `count` bytes. R, W: a buffer to which a struct points; these follow the kernel's own arguments.
    char kind;
    // f: float, d: double, u: unsigned int, of a buffer.
    char element;
    uint64_t count;
    void* data;
    // Of R and W: the number of the struct, and where in it the pointer is.
    uint64_t owner;
    uint64_t offset;
};

// What a parameter expects, and how it is read from an argument.
template <class T> struct Parameter {
    // A struct that is passed by value.
    static bool fits(const Argument& a) { return a.kind == 'p' && a.count == sizeof(T); }
    static T take(void* value) { return *static_cast<T*>(value); }
    static const char* name() { return "a struct"; }
};
template <class T> struct Parameter<const T&> {
    // BY_VALUE: one copy serves all fibres, whose stacks are small.
    static bool fits(const Argument& a) { return a.kind == 'p' && a.count == sizeof(T); }
    static const T& take(void* value) { return *static_cast<T*>(value); }
    static const char* name() { return "a struct"; }
};
template <char K> struct Number {
    static bool fits(const Argument& a) { return a.kind == K; }
};
template <> struct Parameter<int> : Number<'i'> {
    static int take(void* value) { return *static_cast<int*>(value); }
    static const char* name() { return "int"; }
};
template <> struct Parameter<unsigned> : Number<'u'> {
    static unsigned take(void* value) { return *static_cast<unsigned*>(value); }
    static const char* name() { return "unsigned int"; }
};
template <> struct Parameter<float> : Number<'f'> {
    static float take(void* value) { return *static_cast<float*>(value); }
    static const char* name() { return "float"; }
};
template <class T> constexpr char element();
template <> constexpr char element<float>() { return 'f'; }
template <> constexpr char element<double>() { return 'd'; }
template <> constexpr char element<unsigned>() { return 'u'; }
template <class T> struct Parameter<const T*> {
    static bool fits(const Argument& a) {
        return a.kind == 0 || (a.kind == 'r' && a.element == element<T>());
    }
    static const T* take(void* value) { return *static_cast<const T**>(value); }
    static const char* name() { return "a buffer to read"; }
};
template <class T> struct Parameter<T*> {
    static bool fits(const Argument& a) {
        return a.kind == 0 || (a.kind == 'w' && a.element == element<T>());
    }
    static T* take(void* value) { return *static_cast<T**>(value); }
    static const char* name() { return "a buffer to write"; }
};

// A kernel with the types of its parameters.
struct Kernel {
    const char* name;
    // Null if the arguments fit, otherwise what the first that does not fit should be.
    const char* (*check)(const Argument* arguments, size_t count, size_t* wrong);
    void (*run)(void** values);
    // Bytes of each parameter, then 0.
    const size_t* sizes;
    Kernel* next;
};
extern Kernel* kernels;

template <auto F> struct Entry;
template <class... P, void (*F)(P...)> struct Entry<F> {
    static const char* check(const Argument* arguments, size_t count, size_t* wrong) {
        if (count != sizeof...(P)) {
            *wrong = sizeof...(P);
            return "another number of arguments";
        }
        const char* problem = nullptr;
        size_t at = 0;
        auto one = [&](bool fits, const char* name) {
            if (!fits && problem == nullptr) {
                problem = name;
                *wrong = at;
            }
            at++;
        };
        (one(Parameter<P>::fits(arguments[at]), Parameter<P>::name()), ...);
        return problem;
    }
    template <size_t... I>
    static void call(void** values, std::integer_sequence<size_t, I...>) {
        F(Parameter<P>::take(values[I])...);
    }
    static void run(void** values) { call(values, std::index_sequence_for<P...>()); }
    static constexpr size_t sizes[] = {sizeof(std::remove_reference_t<P>)..., 0};
};

struct Register {
    Kernel kernel;
    Register(const char* name, decltype(Kernel::check) check, decltype(Kernel::run) run,
             const size_t* sizes)
        : kernel{name, check, run, sizes, kernels} {
        kernels = &kernel;
    }
};

}  // namespace emulator

#define REGISTER(name)                                                                        \
    static emulator::Register register_##name(                                                \
        #name, &emulator::Entry<&name>::check, &emulator::Entry<&name>::run,                  \
        emulator::Entry<&name>::sizes);
