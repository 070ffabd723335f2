// Buffers and stacks of the emulator. Part of `emulator.cpp`.
#pragma once

#include "fibres.h"

#include <cstring>
#include <mutex>

#if ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {
namespace {

constexpr size_t GUARD = 256;
constexpr unsigned char GUARD_BYTE = 0xff;  // as a float: NaN
constexpr size_t MOST_THREADS = 1024;

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

}  // namespace
}  // namespace emulator
