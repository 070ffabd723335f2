// Launches at the limits of a GPU and beyond: which ones the emulator takes, and what it says to the
// others. Prints what it did not expect.

#include "emulator.cpp"

struct Large {
    char bytes[32765];
};

__global__ void set_first(float* y) {
    if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0 && threadIdx.x == 0) y[0] = 1.0f;
}
REGISTER(set_first)

__global__ void take_large(BY_VALUE(Large)) {}
REGISTER(take_large)

struct Case {
    uint32_t grid[3];
    uint32_t block;
    uint64_t shared;
    // What the message says; null if the launch is taken.
    const char* refusal;
};

constexpr Case CASES[] = {
    {{1, 1, 1}, 32, 0, nullptr},
    {{65536, 1, 1}, 32, 0, nullptr},
    {{1, 65535, 1}, 32, 0, nullptr},
    {{1, 1, 65535}, 32, 0, nullptr},
    {{1, 1, 1}, 1024, 49152, nullptr},
    {{1, 65536, 1}, 32, 0, "a grid of 1 x 65536 x 1"},
    {{1, 1, 65536}, 32, 0, "a grid of 1 x 1 x 65536"},
    {{0x80000000u, 1, 1}, 32, 0, "a grid of 2147483648 x 1 x 1"},
    {{1, 0, 1}, 32, 0, "a grid of 1 x 0 x 1"},
    {{1, 1, 1}, 1056, 0, "1056 threads in a block"},
    {{1, 1, 1}, 0, 0, "0 threads in a block"},
    {{1, 1, 1}, 48, 0, "48 threads are not whole warps"},
    {{1, 1, 1}, 32, 49153, "49153 bytes of shared memory"},
};

int wrong = 0;

void check(const char* kernel, const Case& launch, Argument argument) {
    char said[512] = "";
    uint32_t block[3] = {launch.block, 1, 1};
    int failed = emulator_launch(kernel, launch.grid, block, launch.shared, &argument, 1, 1, 2, said, sizeof said);
    bool expected = launch.refusal == nullptr ? failed == 0 : failed != 0 && strstr(said, launch.refusal);
    if (expected) return;
    wrong++;
    printf("%s: %s, expected %s\n", kernel, failed ? said : "taken", launch.refusal ? launch.refusal : "taken");
}

int main() {
    for (const Case& launch : CASES) {
        float y = 0.0f;
        check("set_first", launch, {'w', 'f', 1, &y, 0, 0});
        if (y != (launch.refusal == nullptr ? 1.0f : 0.0f)) wrong++, printf("y is %g\n", y);
    }
    Large large{};
    Case launch{{1, 1, 1}, 32, 0, "32765 bytes of parameters"};
    check("take_large", launch, {'p', 0, sizeof large, &large, 0, 0});
    return wrong;
}
