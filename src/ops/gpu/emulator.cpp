// Runs kernels on the processor, to test them where there is no GPU.
//
// The threads of a block are fibres. A fibre runs until a barrier, a shuffle or its end; which one
// continues is decided by a seed, so a result that depends on the order of threads shows as a
// difference between seeds. Compiled with -fsanitize=thread, the fibres are announced to the sanitizer
// as threads that only barriers and shuffles synchronise, and a missing barrier is reported as a race.
//
// A buffer is copied between two guard zones, which must be unchanged after the launch. Shared memory
// has exactly the size that the host passes, starts as NaN and has guard zones too.

// This file is compiled without instrumentation, so that a sanitizer sees the kernels only; these say
// which one they are compiled for.
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif
#ifndef ADDRESS_SANITIZER
#define ADDRESS_SANITIZER 0
#endif

#include "emulator/fibres.h"
#include "emulator/memory.h"

#include <thread>

namespace emulator {

thread_local Position position;
Kernel* kernels = nullptr;

namespace {

constexpr size_t MOST_SHARED = 48 << 10;
constexpr size_t MOST_PARAMETERS = 32764;

size_t size_of(char element) { return element == 'd' ? 8 : 4; }

const Kernel* find(const char* name) {
    for (const Kernel* kernel = kernels; kernel != nullptr; kernel = kernel->next) {
        if (strcmp(kernel->name, name) == 0) return kernel;
    }
    return nullptr;
}

// What a launch asks for, without its buffers.
struct Launch {
    const Kernel* kernel;
    dim3 grid, block;
    size_t shared;
    uint64_t seed;
};

// Why no GPU takes such a launch; empty if it does.
std::string refusal(const Launch& launch) {
    auto [kernel, grid, block, shared, seed] = launch;
    if (kernel == nullptr) return "no such kernel";
    size_t threads = size_t(block.x) * block.y * block.z;
    if (threads == 0 || threads > MOST_THREADS) return format("%zu threads in a block", threads);
    if (threads % WARP != 0) return format("%zu threads are not whole warps", threads);
    bool empty = grid.x == 0 || grid.y == 0 || grid.z == 0;
    if (empty || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
        return format("a grid of %u x %u x %u", grid.x, grid.y, grid.z);
    }
    if (shared > MOST_SHARED) return format("%zu bytes of shared memory", shared);
    size_t parameters = 0;
    for (const size_t* size = kernel->sizes; *size != 0; size++) parameters += *size;
    if (parameters > MOST_PARAMETERS) return format("%zu bytes of parameters", parameters);
    return {};
}

// One thread of the processor: it runs every `step`-th block from `first`.
void run_blocks(const Launch& launch, void** values, size_t first, size_t step,
                std::string& problem) {
    size_t threads = size_t(launch.block.x) * launch.block.y * launch.block.z;
    Block block;
    block.kernel = launch.kernel;
    block.values = values;
    block.fibres.resize(threads);
    block.order.resize(threads);
    Stacks stacks;
    for (size_t i = 0; i < threads; i++) {
        Fibre& fibre = block.fibres[i];
        fibre.block = &block;
        fibre.thread = {unsigned(i % launch.block.x), unsigned(i / launch.block.x % launch.block.y),
                        unsigned(i / launch.block.x / launch.block.y)};
        fibre.stack = stacks.of(i);
        block.order[i] = unsigned(i);
    }
    size_t blocks = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    std::vector<unsigned> mine;
    for (size_t b = first; b < blocks; b += step) mine.push_back(unsigned(b));
    uint64_t random = launch.seed;
    shuffle_order(mine, random);
    // A sanitizer sees the blocks as concurrent, so each has memory of its own there.
    std::vector<Guarded> all_shared;
    constexpr bool OWN_SHARED = THREAD_SANITIZER || ADDRESS_SANITIZER;
    all_shared.reserve(mine.size());
    for (size_t i = 0; i < (OWN_SHARED ? mine.size() : 1); i++) {
        all_shared.emplace_back(launch.shared);
    }
#if THREAD_SANITIZER
    char begin = 0, end = 0;
    block.begin_tag = &begin;
    block.end_tag = &end;
    block.announced = __tsan_get_current_fiber();
    block.warp_tags.resize(threads / WARP + 1);
    __tsan_release(&begin);
#endif
#if THREAD_SANITIZER
    // Announcing a fibre is expensive, so they are kept for the next launch.
    static std::vector<void*>& announced = *new std::vector<void*>;
    while (announced.size() < threads) announced.push_back(__tsan_create_fiber(0));
    for (size_t i = 0; i < threads; i++) block.fibres[i].announced = announced[i];
#endif
    for (size_t i = 0; i < mine.size(); i++) {
        size_t b = mine[i];
        if (!OWN_SHARED) memset(all_shared[0].data(), GUARD_BYTE, launch.shared);
        Guarded& shared = all_shared[OWN_SHARED ? i : 0];
        position.shared = shared.data();
        position.block = {unsigned(b % launch.grid.x), unsigned(b / launch.grid.x % launch.grid.y),
                          unsigned(b / launch.grid.x / launch.grid.y)};
        position.block_dim = launch.block;
        position.grid_dim = launch.grid;
        block.random = launch.seed * 0x100000001b3ull + b;
        run_block(block);
        problem = block.problem;
        if (problem.empty() && !shared.intact()) {
            problem = format("shared memory: a block wrote outside its %zu bytes", launch.shared);
        }
        if (!problem.empty()) break;
    }
#if THREAD_SANITIZER
    __tsan_acquire(&end);
#endif
}

// Runs all blocks, on up to `workers` threads of the processor. Returns a problem, if there is one.
std::string run(const Launch& launch, void** values, size_t workers) {
    size_t blocks = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    size_t threads = size_t(launch.block.x) * launch.block.y * launch.block.z;
    size_t most = THREAD_SANITIZER || blocks * threads < 16384 ? 1 : workers;
    most = std::max<size_t>(1, std::min(most, blocks));
    std::vector<std::string> problems(most);
    if (most == 1) {
        run_blocks(launch, values, 0, 1, problems[0]);
        return problems[0];
    }
    std::vector<std::thread> team;
    for (size_t w = 0; w < most; w++) {
        team.emplace_back([&, w] { run_blocks(launch, values, w, most, problems[w]); });
    }
    for (auto& worker : team) worker.join();
    for (auto& problem : problems) {
        if (!problem.empty()) return problem;
    }
    return {};
}

// Copies of the buffers and structs of a launch. The kernel gets these.
class Copies {
  public:
    // `own` of the arguments are the kernel's; structs point to the others.
    Copies(const Argument* arguments, size_t count, size_t own)
        : arguments_(arguments), count_(count), own_(own), structs_(own), pointers_(own), values(own) {
        buffers_.reserve(count);
        for (size_t i = 0; i < count; i++) {
            buffer_of_.push_back(is_buffer(i) ? buffers_.size() : SIZE_MAX);
            if (is_buffer(i)) buffers_.emplace_back(bytes(i));
        }
    }
    // Returns a problem, if there is one.
    std::string fill() {
        for (size_t i = 0; i < count_; i++) {
            const Argument& a = arguments_[i];
            unsigned char* copy = is_buffer(i) ? buffers_[buffer_of_[i]].data() : nullptr;
            if (copy != nullptr) memcpy(copy, a.data, bytes(i));
            if (i >= own_) {
                if (a.owner >= own_ || a.offset + sizeof copy > structs_[a.owner].size()) {
                    return format("argument %zu points from outside a struct", i);
                }
                memcpy(structs_[a.owner].data() + a.offset, &copy, sizeof copy);
            } else if (a.kind == 'p') {
                auto* from = static_cast<unsigned char*>(a.data);
                structs_[i].assign(from, from + a.count);
                values[i] = structs_[i].data();
            } else if (copy != nullptr || a.kind == 0) {
                pointers_[i] = copy;
                values[i] = &pointers_[i];
            } else {
                values[i] = a.data;
            }
        }
        return {};
    }
    // What the kernel did to its buffers that it must not do; empty if nothing.
    std::string check() {
        for (size_t i = 0; i < count_; i++) {
            if (!is_buffer(i)) continue;
            const Argument& a = arguments_[i];
            Guarded& buffer = buffers_[buffer_of_[i]];
            if (!buffer.intact()) {
                return format("argument %zu: written outside its %zu values", i, size_t(a.count));
            }
            bool reads = a.kind == 'r' || a.kind == 'R';
            if (reads && memcmp(a.data, buffer.data(), bytes(i)) != 0) {
                return format("argument %zu: a buffer to read was written", i);
            }
        }
        return {};
    }
    void write_back() {
        for (size_t i = 0; i < count_; i++) {
            const Argument& a = arguments_[i];
            if (a.kind == 'w' || a.kind == 'W') memcpy(a.data, buffers_[buffer_of_[i]].data(), bytes(i));
        }
    }

  private:
    bool is_buffer(size_t i) const { return arguments_[i].kind != 0 && strchr("rwRW", arguments_[i].kind); }
    size_t bytes(size_t i) const { return arguments_[i].count * size_of(arguments_[i].element); }
    const Argument* arguments_;
    size_t count_, own_;
    std::vector<Guarded> buffers_;
    std::vector<size_t> buffer_of_;
    std::vector<std::vector<unsigned char>> structs_;
    std::vector<void*> pointers_;

  public:
    // A pointer to the value of each of the kernel's arguments.
    std::vector<void*> values;
};

}  // namespace

void barrier() {
    Block& block = *running;
    Fibre& fibre = *block.current;
    fibre.state = State::AtBarrier;
#if THREAD_SANITIZER
    __tsan_release(&block.barrier_tag);
#endif
    to_scheduler(block, fibre);
#if THREAD_SANITIZER
    __tsan_acquire(&block.barrier_tag);
#endif
}

uint64_t exchange(uint64_t value, unsigned lane) {
    Block& block = *running;
    Fibre& fibre = *block.current;
    fibre.value = value;
    fibre.lane = lane;
    fibre.state = State::AtShuffle;
#if THREAD_SANITIZER
    // A shuffle orders the accesses of its warp, as __syncwarp does.
    char* tag = &block.warp_tags[(&fibre - block.fibres.data()) / WARP];
    __tsan_release(tag);
#endif
    to_scheduler(block, fibre);
#if THREAD_SANITIZER
    __tsan_acquire(tag);
#endif
    return fibre.value;
}

}  // namespace emulator

using namespace emulator;

#ifdef SOURCES
// A hash of the sources. A program loads only the library that was compiled from its own.
extern "C" {
extern const char emulator_sources[];
const char emulator_sources[] = SOURCES;
}
#endif

// Launches a kernel. Returns 0, or 1 with a message in `error`.
extern "C" int emulator_launch(const char* name, const uint32_t* grid, const uint32_t* block,
                               uint64_t shared, const Argument* arguments, uint64_t count,
                               uint64_t seed, uint32_t workers, char* error, uint64_t error_len) {
    auto fail = [&](const std::string& problem) {
        snprintf(error, error_len, "%s: %s", name, problem.c_str());
        return 1;
    };
    Launch launch{find(name), {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared,
                  seed};
    std::string problem = refusal(launch);
    if (!problem.empty()) return fail(problem);
    size_t own = 0;
    while (own < count && arguments[own].kind != 'R' && arguments[own].kind != 'W') own++;
    size_t wrong = 0;
    if (const char* expected = launch.kernel->check(arguments, own, &wrong)) {
        return fail(format("argument %zu: expected %s", wrong, expected));
    }
    Copies copies(arguments, count, own);
    problem = copies.fill();
    if (problem.empty()) problem = run(launch, copies.values.data(), workers);
    if (problem.empty()) problem = copies.check();
    if (!problem.empty()) return fail(problem);
    copies.write_back();
    return 0;
}
