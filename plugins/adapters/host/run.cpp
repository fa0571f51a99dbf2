// Runs kernels on the CPU; compiled together with one kernel.cu, and described in shim.h.
// ENTRIES is a list X(name) X(name) of the kernels in KERNEL.
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <string>
#include <typeinfo>
#include <cxxabi.h>
#include <utility>
#include <vector>

#include "shim.h"
#include KERNEL

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))
#elif defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define UNSEEN __attribute__((noinline))
#else
#define UNSEEN
#endif

namespace host {
namespace {

enum State { READY, AT_BARRIER, AT_WARP, DONE };

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool started;
    State state;
    unsigned mask, barriers, warp_barriers;
    char* stack;
    void* tsan;
    void* fake_stack;
};

struct Warp {
    unsigned long long values[32];
    char token[2];
};

struct Launch {
    void (*call)(void**);
    void** arguments;
};

constexpr size_t STACK = 256 * 1024;
constexpr int MOST_THREADS = 1024;

Fiber fibers[MOST_THREADS];
Warp warps[MOST_THREADS / 32];
char block_token[2], launch_start, launch_end;
Index3 grid_, block_, at_block, at_thread;
int running, threads;
[[maybe_unused]] ucontext_t scheduler;
[[maybe_unused]] jmp_buf scheduler_place;
[[maybe_unused]] void* scheduler_tsan;
Launch launch_;
const char* failure;
#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack;
size_t scheduler_stack_size;
#endif

inline void happens_before(char* token) {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(token);
#else
    (void)token;
#endif
}

inline void happens_after(char* token) {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(token);
#else
    (void)token;
#endif
}

// Back to the scheduler; returns when it resumes this fiber.
UNSEEN void leave() {
    Fiber& me = fibers[running];
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(scheduler_tsan, __tsan_switch_to_fiber_no_sync);
    swapcontext(&me.context, &scheduler);
#elif defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(me.state == DONE ? nullptr : &me.fake_stack, scheduler_stack,
                                   scheduler_stack_size);
    swapcontext(&me.context, &scheduler);
    __sanitizer_finish_switch_fiber(me.fake_stack, nullptr, nullptr);
#else
    if (!_setjmp(me.place)) _longjmp(scheduler_place, 1);
#endif
}

UNSEEN void body() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    happens_after(&launch_start);
    launch_.call(launch_.arguments);
    happens_before(&launch_end);
    fibers[running].state = DONE;
    leave();
}

UNSEEN void resume(int index) {
    Fiber& fiber = fibers[index];
    running = index;
    at_thread = {(unsigned)index, 0, 0};
    fiber.state = READY;
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(fiber.tsan, __tsan_switch_to_fiber_no_sync);
    swapcontext(&scheduler, &fiber.context);
#elif defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fiber.stack, STACK);
    swapcontext(&scheduler, &fiber.context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    if (_setjmp(scheduler_place)) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.context);
#endif
}

UNSEEN void prepare(Fiber& fiber) {
#if defined(__SANITIZE_THREAD__)  // blocks of a device have no stacks in common either
    if (fiber.stack) munmap(fiber.stack, STACK);
    fiber.stack = nullptr;
#endif
    if (!fiber.stack)
        fiber.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, body, 0);
    fiber.started = false;
    fiber.state = READY;
    fiber.barriers = fiber.warp_barriers = 0;
#if defined(__SANITIZE_THREAD__)
    fiber.tsan = __tsan_create_fiber(0);
#endif
}

// Lets warps go on whose waiting threads are all there; true if any could.
UNSEEN bool release_warps() {
    bool any = false;
    for (int start = 0; start < threads; start += 32) {
        const int lanes = threads - start < 32 ? threads - start : 32;
        for (int lane = 0; lane < lanes; ++lane) {
            if (fibers[start + lane].state != AT_WARP) continue;
            const unsigned mask = fibers[start + lane].mask;
            bool complete = true;
            for (int other = 0; other < lanes; ++other)
                if (mask >> other & 1) {
                    const Fiber& them = fibers[start + other];
                    complete &= them.state == AT_WARP && them.mask == mask;
                }
            if (!complete) continue;
            for (int other = 0; other < lanes; ++other)
                if (mask >> other & 1) fibers[start + other].state = READY;
            any = true;
        }
    }
    return any;
}

// A number that is free again goes to the next fiber, and the sanitizer takes the two for one
// thread: threads that are done keep theirs while the launch lasts, as far as there are numbers.
#if defined(__SANITIZE_THREAD__)
std::vector<void*> finished;
constexpr size_t MOST_FINISHED = 6000;

UNSEEN void forget_finished() {
    for (void* fiber : finished) __tsan_destroy_fiber(fiber);
    finished.clear();
}
#endif

UNSEEN bool run_block(bool backwards) {
    for (int i = 0; i < threads; ++i) prepare(fibers[i]);
    for (;;) {
        int done = 0, waiting = 0;
        for (int i = 0; i < threads && !failure; ++i) {
            const int index = backwards ? threads - 1 - i : i;
            if (fibers[index].state == READY) resume(index);
        }
        if (failure) return false;
        for (int i = 0; i < threads; ++i) {
            done += fibers[i].state == DONE;
            waiting += fibers[i].state == AT_BARRIER;
        }
        if (done == threads) break;
        if (release_warps()) continue;
        if (waiting != threads) {
            failure = waiting ? "a barrier that some threads of the block do not reach"
                              : "a warp primitive whose mask names threads that do not reach it";
            return false;
        }
        for (int i = 0; i < threads; ++i) fibers[i].state = READY;
    }
#if defined(__SANITIZE_THREAD__)
    for (int i = 0; i < threads; ++i) finished.push_back(fibers[i].tsan);
    if (finished.size() > MOST_FINISHED) forget_finished();
#endif
    return true;
}

}  // namespace

UNSEEN Index3 thread_index() { return at_thread; }
UNSEEN Index3 block_index() { return at_block; }
UNSEEN Index3 block_size() { return block_; }
UNSEEN Index3 grid_size() { return grid_; }
UNSEEN unsigned lane() { return (unsigned)running & 31; }
UNSEEN void put(unsigned long long value) { warps[running / 32].values[running & 31] = value; }
UNSEEN unsigned long long take(unsigned lane) { return warps[running / 32].values[lane]; }

// Two tokens in turn: with one, a thread that ran ahead to the next barrier would seem to come
// before those that still leave this one.
UNSEEN void barrier() {
    Fiber& me = fibers[running];
    char* token = &block_token[me.barriers++ & 1];
    happens_before(token);
    me.state = AT_BARRIER;
    leave();
    happens_after(token);
}

UNSEEN void warp_barrier(unsigned mask) {
    Fiber& me = fibers[running];
    const int first = running & ~31, lanes = threads - first < 32 ? threads - first : 32;
    const unsigned all = lanes == 32 ? ~0u : (1u << lanes) - 1;
    if (!(mask >> (running & 31) & 1)) fail("a warp primitive is called by a lane outside its mask");
    char* token = &warps[running / 32].token[me.warp_barriers++ & 1];
    happens_before(token);
    me.mask = mask & all;
    me.state = AT_WARP;
    leave();
    happens_after(token);
}

UNSEEN void fail(const char* what) {
    if (!failure) failure = what;
    leave();  // not resumed: the block ends at the first failure
}

}  // namespace host

#ifndef MASKRT_PLAIN_SHARED
extern "C" char __start_maskrt_shared[] __attribute__((weak));
extern "C" char __stop_maskrt_shared[] __attribute__((weak));
#endif

namespace {

// Fills shared memory, and makes the thread sanitizer forget who used it: blocks share the CPU's
// copy, but on a device each has its own. Pages mapped anew belong to whoever mapped them.
UNSEEN void fresh_shared_memory([[maybe_unused]] int pattern) {
#ifndef MASKRT_PLAIN_SHARED
    char *start = __start_maskrt_shared, *stop = __stop_maskrt_shared;
    if (!start) return;
#ifdef __SANITIZE_THREAD__
    // The linker puts the section at a page of its own; see build.py.
    if (mmap(start, (size_t)(stop - start), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        abort();
#endif
    memset(start, pattern, (size_t)(stop - start));
#endif
}

template <class T> std::string type_name() {
    int status = 0;
    char* name = abi::__cxa_demangle(typeid(T).name(), nullptr, nullptr, &status);
    std::string result = name;
    free(name);
    return result;
}

template <class... A> std::string signature_of(void (*)(A...)) {
    std::string joined;
    ((joined += (joined.empty() ? "" : ", ") + type_name<A>()), ...);
    return joined;
}

template <class... A, size_t... I>
void apply(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*(A*)arguments[I]...);
}

template <class... A> void apply_all(void (*kernel)(A...), void** arguments) {
    apply(kernel, arguments, std::index_sequence_for<A...>());
}

struct Entry {
    const char* name;
    void (*call)(void**);
    std::string signature;
};

const std::vector<Entry>& entries() {
#define X(name) {#name, [](void** arguments) { apply_all(&name, arguments); }, signature_of(&name)},
    static const std::vector<Entry> all = {ENTRIES};
#undef X
    return all;
}

}  // namespace

extern "C" const char* maskrt_signature(const char* name) {
    for (const Entry& entry : entries())
        if (!strcmp(entry.name, name)) return entry.signature.c_str();
    return nullptr;
}

// Returns null, or what the kernel did wrong. `order`: bit 0 runs threads, bit 1 blocks backwards.
extern "C" __attribute__((visibility("default"))) UNSEEN const char* maskrt_launch(
    const char* name, const unsigned* grid, unsigned block, void** arguments, int order,
    int pattern) {
    using namespace host;
    const Entry* found = nullptr;
    for (const Entry& entry : entries())
        if (!strcmp(entry.name, name)) found = &entry;
    if (!found) return "no kernel of that name";
    if (block == 0 || block > MOST_THREADS || !grid[0] || !grid[1] || !grid[2] ||
        grid[1] > 65535 || grid[2] > 65535)
        return "a grid or block that CUDA refuses";
    grid_ = {grid[0], grid[1], grid[2]};
    block_ = {block, 1, 1};
    threads = (int)block;
    launch_ = {found->call, arguments};
    failure = nullptr;
#if defined(__SANITIZE_THREAD__)
    scheduler_tsan = __tsan_get_current_fiber();
#endif
    const unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
    for (unsigned long long i = 0; i < blocks; ++i) {
        const unsigned long long at = order & 2 ? blocks - 1 - i : i;
        at_block = {(unsigned)(at % grid[0]), (unsigned)(at / grid[0] % grid[1]),
                    (unsigned)(at / grid[0] / grid[1])};
        fresh_shared_memory(pattern);
        happens_before(&launch_start);
        if (!run_block(order & 1)) return failure;
    }
    happens_after(&launch_end);
#if defined(__SANITIZE_THREAD__)
    forget_finished();
#endif
    return nullptr;
}

#ifdef MASKRT_PROGRAM
#include <stdio.h>

// A job in a file, for builds that a Python process cannot load. The file holds, in text, the
// buffers ("buffer BYTES FILE") and launches ("launch NAME GX GY GZ BLOCK ARGUMENTS", an argument
// being b<index> or i<value>); buffers are read from their files, and written back at the end.
// Each buffer is an allocation of exactly its size, aligned as CUDA's are.
int main(int count, char** arguments) {
    if (count < 2) return 2;
    FILE* job = fopen(arguments[1], "r");
    if (!job) return 2;
    std::vector<std::pair<char*, size_t>> buffers;
    std::vector<std::string> files;
    char word[4096];
    while (fscanf(job, "%4095s", word) == 1) {
        if (!strcmp(word, "buffer")) {
            size_t size = 0;
            if (fscanf(job, "%zu %4095s", &size, word) != 2) return 2;
            void* data = nullptr;
            if (posix_memalign(&data, 256, size)) return 2;
            if (FILE* file = fopen(word, "rb")) {
                if (fread(data, 1, size, file) != size) return 2;
                fclose(file);
            }
            buffers.push_back({(char*)data, size});
            files.push_back(word);
        } else {
            char name[256];
            unsigned grid[3], block;
            int number = 0;
            if (fscanf(job, "%255s %u %u %u %u %d", name, grid, grid + 1, grid + 2, &block,
                       &number) != 6)
                return 2;
            std::vector<void*> pointers(number);
            std::vector<int> integers(number);
            std::vector<void*> list(number);
            for (int i = 0; i < number; ++i) {
                if (fscanf(job, "%4095s", word) != 1) return 2;
                const int value = atoi(word + 1);
                integers[i] = value;
                if (*word == 'b') pointers[i] = buffers[value].first;
                list[i] = *word == 'b' ? (void*)&pointers[i] : (void*)&integers[i];
            }
            if (const char* wrong = maskrt_launch(name, grid, block, list.data(), 0, 0xAB)) {
                fprintf(stderr, "%s: %s\n", name, wrong);
                return 3;
            }
        }
    }
    for (size_t i = 0; i < buffers.size(); ++i) {
        FILE* file = fopen(files[i].c_str(), "wb");
        fwrite(buffers[i].first, 1, buffers[i].second, file);
        fclose(file);
        free(buffers[i].first);
    }
    return 0;
}
#endif
