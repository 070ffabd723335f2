// Runs kernels on the processor, to test them where there is no GPU.
//
// The threads of a block are fibres. A fibre runs until a barrier, a shuffle or its end; which one
// continues is decided by a seed, so a result that depends on the order of threads shows as a
// difference between seeds. Compiled with -fsanitize=thread, the fibres are announced to the sanitizer
// as threads that only barriers and shuffles synchronise, and a missing barrier is reported as a race.
//
// A buffer is copied between two guard zones, which must be unchanged after the launch. Shared memory
// has exactly the size that the host passes, starts as NaN and has guard zones too.

#include "emulator.h"

#include <algorithm>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

// This file is compiled without instrumentation, so that a sanitizer sees the kernels only; these say
// which one they are compiled for.
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif
#ifndef ADDRESS_SANITIZER
#define ADDRESS_SANITIZER 0
#endif
#if THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif
#if ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if THREAD_SANITIZER || !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

thread_local Position position;
Kernel* kernels = nullptr;

namespace {

constexpr size_t STACK = 32 << 10;
constexpr size_t GUARD = 256;
constexpr unsigned char GUARD_BYTE = 0xff;  // as a float: NaN
constexpr size_t MOST_SHARED = 48 << 10;
constexpr size_t MOST_PARAMETERS = 32764;
constexpr unsigned WARP = 32;
constexpr size_t MOST_THREADS = 1024;

// --- fibres -----------------------------------------------------------------------------------

#if !THREAD_SANITIZER && defined(__x86_64__)
#define OWN_SWITCH 1
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch,.-emulator_switch
)");
#else
#define OWN_SWITCH 0
#endif

enum class State { Running, AtBarrier, AtShuffle, Finished };

struct Block;

struct Fibre {
    Block* block = nullptr;
    uint3 thread{};
    State state = State::Running;
    uint64_t value = 0;
    unsigned lane = 0;
    unsigned char* stack = nullptr;
#if OWN_SWITCH
    void* at = nullptr;
#else
    ucontext_t context;
#endif
#if THREAD_SANITIZER
    void* announced = nullptr;
#endif
};

struct Block {
    const Kernel* kernel = nullptr;
    void** values = nullptr;
    uint64_t random = 0;
    std::vector<Fibre> fibres;
    std::vector<unsigned> order;
    Fibre* current = nullptr;
    std::string problem;
#if OWN_SWITCH
    void* scheduler = nullptr;
#else
    ucontext_t scheduler;
#endif
#if THREAD_SANITIZER
    void* announced = nullptr;
    // Orders the host before all fibres, and all fibres before the host, but no two blocks.
    char* begin_tag = nullptr;
    char* end_tag = nullptr;
    char barrier_tag = 0;
    std::vector<char> warp_tags;
#endif
#if ADDRESS_SANITIZER
    const void* host_stack = nullptr;
    size_t host_size = 0;
#endif
};

thread_local Block* running = nullptr;

void to_scheduler(Block& block, Fibre& fibre) {
#if ADDRESS_SANITIZER
    void* fake = nullptr;
    bool over = fibre.state == State::Finished;
    __sanitizer_start_switch_fiber(over ? nullptr : &fake, block.host_stack, block.host_size);
#endif
#if THREAD_SANITIZER
    __tsan_switch_to_fiber(block.announced, __tsan_switch_to_fiber_no_sync);
#endif
#if OWN_SWITCH
    emulator_switch(&fibre.at, block.scheduler);
#else
    swapcontext(&fibre.context, &block.scheduler);
#endif
#if ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void resume(Block& block, Fibre& fibre) {
    block.current = &fibre;
    position.thread = fibre.thread;
    fibre.state = State::Running;
#if ADDRESS_SANITIZER
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fibre.stack, STACK);
#endif
#if THREAD_SANITIZER
    __tsan_switch_to_fiber(fibre.announced, __tsan_switch_to_fiber_no_sync);
#endif
#if OWN_SWITCH
    emulator_switch(&block.scheduler, fibre.at);
#else
    swapcontext(&block.scheduler, &fibre.context);
#endif
#if ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void run_kernel(Block& block) { block.kernel->run(block.values); }

void enter() {
    Block& block = *running;
    Fibre& fibre = *block.current;
#if ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(nullptr, &block.host_stack, &block.host_size);
#endif
#if THREAD_SANITIZER
    __tsan_acquire(block.begin_tag);
#endif
    run_kernel(block);
#if THREAD_SANITIZER
    __tsan_release(block.end_tag);
#endif
    fibre.state = State::Finished;
    to_scheduler(block, fibre);
    abort();
}

void prepare(Fibre& fibre) {
#if OWN_SWITCH
    auto** top = reinterpret_cast<void**>(fibre.stack + STACK);
    *--top = nullptr;                               // keeps the stack aligned for `enter`
    *--top = reinterpret_cast<void*>(&enter);
    for (int i = 0; i < 6; i++) *--top = nullptr;   // callee-saved registers
    fibre.at = top;
#else
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack;
    fibre.context.uc_stack.ss_size = STACK;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, enter, 0);
#endif
}

uint64_t next_random(uint64_t& state) {
    state += 0x9e3779b97f4a7c15ull;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void shuffle_order(std::vector<unsigned>& order, uint64_t& random) {
    for (size_t i = order.size(); i > 1; i--) {
        std::swap(order[i - 1], order[next_random(random) % i]);
    }
}

std::string format(const char* text, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, text);
    vsnprintf(line, sizeof line, text, arguments);
    va_end(arguments);
    return line;
}

// Completes the shuffles of every warp whose threads all wait at one. Returns whether any did.
bool complete_shuffles(Block& block) {
    bool any = false;
    auto& fibres = block.fibres;
    for (size_t first = 0; first < fibres.size(); first += WARP) {
        size_t end = std::min(first + WARP, fibres.size());
        size_t waiting = 0;
        for (size_t i = first; i < end; i++) waiting += fibres[i].state == State::AtShuffle;
        if (waiting < end - first) continue;
        uint64_t values[WARP];
        for (size_t i = first; i < end; i++) {
            size_t from = first + fibres[i].lane;
            values[i - first] = from < end ? fibres[from].value : fibres[i].value;
        }
        for (size_t i = first; i < end; i++) {
            fibres[i].value = values[i - first];
            fibres[i].state = State::Running;
        }
        any = true;
    }
    return any;
}

void run_block(Block& block) {
    running = &block;
    auto& fibres = block.fibres;
    for (auto& fibre : fibres) {
        fibre.state = State::Running;
        prepare(fibre);
    }
    for (;;) {
        shuffle_order(block.order, block.random);
        for (unsigned i : block.order) {
            if (fibres[i].state == State::Running) resume(block, fibres[i]);
        }
        if (complete_shuffles(block)) continue;
        size_t finished = 0, waiting = 0;
        for (auto& fibre : fibres) {
            finished += fibre.state == State::Finished;
            waiting += fibre.state == State::AtBarrier;
        }
        if (finished == fibres.size()) return;
        if (waiting == fibres.size()) {
            for (auto& fibre : fibres) fibre.state = State::Running;
            continue;
        }
        block.problem = format("%zu threads of a block wait at a barrier, %zu at a shuffle, %zu "
                               "have ended", waiting, fibres.size() - waiting - finished, finished);
        return;
    }
}

// --- memory -----------------------------------------------------------------------------------

// A copy between guard zones.
class Guarded {
  public:
    explicit Guarded(size_t bytes) : bytes_(bytes) {
        whole_ = static_cast<unsigned char*>(aligned_alloc(256, round(bytes) + 2 * GUARD));
        memset(whole_, GUARD_BYTE, round(bytes) + 2 * GUARD);
        poison();
    }
    Guarded(Guarded&& other) noexcept : whole_(other.whole_), bytes_(other.bytes_) {
        other.whole_ = nullptr;
    }
    Guarded(const Guarded&) = delete;
    ~Guarded() {
        if (whole_ == nullptr) return;
        unpoison();
        free(whole_);
    }
    unsigned char* data() { return whole_ + GUARD; }
    // Whether the guard zones are unchanged.
    bool intact() {
        unpoison();
        bool intact = true;
        for (size_t i = 0; i < GUARD; i++) intact &= whole_[i] == GUARD_BYTE;
        for (size_t i = bytes_; i < round(bytes_) + GUARD; i++) {
            intact &= whole_[GUARD + i] == GUARD_BYTE;
        }
        return intact;
    }

  private:
    static size_t round(size_t bytes) { return (bytes + 255) / 256 * 256; }
    void poison() {
#if ADDRESS_SANITIZER
        __asan_poison_memory_region(whole_, GUARD);
        __asan_poison_memory_region(whole_ + GUARD + bytes_, round(bytes_) - bytes_ + GUARD);
#endif
    }
    void unpoison() {
#if ADDRESS_SANITIZER
        __asan_unpoison_memory_region(whole_, round(bytes_) + 2 * GUARD);
#endif
    }
    unsigned char* whole_;
    size_t bytes_;
};

// Stacks for the fibres of one block, kept for the next launch.
class Stacks {
  public:
    Stacks() {
        std::lock_guard<std::mutex> lock(mutex);
        if (!kept.empty()) {
            memory_ = kept.back();
            kept.pop_back();
        } else {
            memory_ = static_cast<unsigned char*>(aligned_alloc(4096, MOST_THREADS * STACK));
        }
    }
    Stacks(const Stacks&) = delete;
    ~Stacks() {
        std::lock_guard<std::mutex> lock(mutex);
        kept.push_back(memory_);
    }
    unsigned char* of(size_t fibre) { return memory_ + fibre * STACK; }

  private:
    static inline std::mutex mutex;
    // Never destroyed: a leak checker then finds the stacks at the end of the process.
    static inline std::vector<unsigned char*>& kept = *new std::vector<unsigned char*>;
    unsigned char* memory_;
};

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
    if (launch.kernel == nullptr) return fail("no such kernel");
    size_t threads = size_t(block[0]) * block[1] * block[2];
    if (threads == 0 || threads > MOST_THREADS) return fail(format("%zu threads in a block", threads));
    if (threads % WARP != 0) return fail(format("%zu threads are not whole warps", threads));
    size_t blocks = size_t(grid[0]) * grid[1] * grid[2];
    if (blocks == 0 || grid[1] > 65535 || grid[2] > 65535 || grid[0] > 0x7fffffff) {
        return fail(format("a grid of %u x %u x %u", grid[0], grid[1], grid[2]));
    }
    if (shared > MOST_SHARED) return fail(format("%zu bytes of shared memory", size_t(shared)));
    size_t own = 0;
    while (own < count && arguments[own].kind != 'R' && arguments[own].kind != 'W') own++;
    size_t wrong = 0;
    if (const char* expected = launch.kernel->check(arguments, own, &wrong)) {
        return fail(format("argument %zu: expected %s", wrong, expected));
    }

    std::vector<Guarded> buffers;
    buffers.reserve(count);
    std::vector<std::vector<unsigned char>> structs(own);
    std::vector<void*> pointers(own), values(own);
    std::vector<size_t> buffer_of(count, SIZE_MAX);
    size_t parameters = 0;
    for (size_t i = 0; i < count; i++) {
        const Argument& a = arguments[i];
        unsigned char* copy = nullptr;
        if (strchr("rwRW", a.kind) != nullptr && a.kind != 0) {
            size_t bytes = a.count * size_of(a.element);
            buffers.emplace_back(bytes);
            copy = buffers.back().data();
            memcpy(copy, a.data, bytes);
            buffer_of[i] = buffers.size() - 1;
        }
        if (i >= own) {
            if (a.owner >= own || a.offset + sizeof copy > structs[a.owner].size()) {
                return fail(format("argument %zu points from outside a struct", i));
            }
            memcpy(structs[a.owner].data() + a.offset, &copy, sizeof copy);
            continue;
        }
        parameters += a.kind == 'p' ? a.count : 8;
        if (a.kind == 'p') {
            auto* from = static_cast<unsigned char*>(a.data);
            structs[i].assign(from, from + a.count);
            values[i] = structs[i].data();
        } else if (copy != nullptr || a.kind == 0) {
            pointers[i] = copy;
            values[i] = &pointers[i];
        } else {
            values[i] = a.data;
        }
    }
    if (parameters > MOST_PARAMETERS) return fail(format("%zu bytes of parameters", parameters));

    std::string problem;
    size_t most = THREAD_SANITIZER || blocks * threads < 16384 ? 1 : workers;
    most = std::max<size_t>(1, std::min(most, blocks));
    if (most == 1) {
        run_blocks(launch, values.data(), 0, 1, problem);
    } else {
        std::vector<std::string> problems(most);
        std::vector<std::thread> team;
        for (size_t w = 0; w < most; w++) {
            team.emplace_back([&, w] { run_blocks(launch, values.data(), w, most, problems[w]); });
        }
        for (auto& worker : team) worker.join();
        for (auto& found : problems) if (problem.empty()) problem = found;
    }
    if (!problem.empty()) return fail(problem);

    for (size_t i = 0; i < count; i++) {
        if (buffer_of[i] == SIZE_MAX) continue;
        const Argument& a = arguments[i];
        Guarded& buffer = buffers[buffer_of[i]];
        size_t bytes = a.count * size_of(a.element);
        if (!buffer.intact()) return fail(format("argument %zu: written outside its %zu values", i,
                                                 size_t(a.count)));
        bool reads = a.kind == 'r' || a.kind == 'R';
        if (reads && memcmp(a.data, buffer.data(), bytes) != 0) {
            return fail(format("argument %zu: a buffer to read was written", i));
        }
    }
    for (size_t i = 0; i < count; i++) {
        const Argument& a = arguments[i];
        if (a.kind == 'w' || a.kind == 'W') {
            memcpy(a.data, buffers[buffer_of[i]].data(), a.count * size_of(a.element));
        }
    }
    return 0;
}
