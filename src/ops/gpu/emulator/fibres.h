// The threads of a block as fibres of one thread of the processor. Part of `emulator.cpp`.
#pragma once

#include "../emulator.h"

#include <algorithm>
#include <cstdarg>
#include <cstdlib>
#include <string>
#include <vector>

#if THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif
#if ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif
#if THREAD_SANITIZER || !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {
namespace {

constexpr size_t STACK = 32 << 10;
constexpr unsigned WARP = 32;

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

}  // namespace
}  // namespace emulator
