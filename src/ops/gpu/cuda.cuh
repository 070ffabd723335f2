// What NVRTC lacks of `common.cuh`'s needs; `emulator.h` is its counterpart for a C++ compiler.

#define SHARED(type, name)                                                   \
    extern __shared__ __align__(16) unsigned char shared_bytes[];            \
    type* name = reinterpret_cast<type*>(shared_bytes)

// Before a loop whose counter indexes an array that should be in registers.
#define UNROLL _Pragma("unroll")

// A parameter that is a struct. Kernels only read it, in constant memory.
#define BY_VALUE(type) const __grid_constant__ type
