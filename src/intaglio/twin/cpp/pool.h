// Threads that wait for passes: they spin a little, since decoding comes back within microseconds,
// then sleep.
#pragma once
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace intaglio {

class Pool {
public:
  explicit Pool(int threads) : process(getpid()) {
    try {
      for (int i = 1; i < threads; i++) workers.emplace_back([this, i] { work(i); });
    } catch (...) { // the system has no more threads
      stop();
      throw;
    }
  }
  ~Pool() { stop(); }
  Pool(const Pool &) = delete;

  // A process that was forked has no workers.
  int threads() const { return getpid() == process ? int(workers.size()) + 1 : 1; }
  int wanted() const { return int(workers.size()) + 1; }

  // job(thread) on every thread; returns when all have returned
  void run(const std::function<void(int)> &job) {
    current = &job;
    running = int(workers.size());
    call.fetch_add(1, std::memory_order_release);
    call.notify_all();
    job(0);
    while (running.load(std::memory_order_acquire)) std::this_thread::yield();
  }

private:
  void stop() {
    if (getpid() != process) {
      // the parent's, whose handles may by now be those of this process's own threads
      new std::vector<std::thread>(std::move(workers));
      return;
    }
    stopping = true;
    call.fetch_add(1);
    call.notify_all();
    for (std::thread &worker : workers) worker.join();
  }

  static constexpr int SPINS = 20000;

  void work(int thread) {
    for (uint32_t seen = 0;;) {
      for (int spin = 0; spin < SPINS && call.load(std::memory_order_acquire) == seen; spin++)
        pause();
      call.wait(seen, std::memory_order_acquire);
      seen = call.load(std::memory_order_acquire);
      if (stopping) return;
      (*current)(thread);
      running.fetch_sub(1, std::memory_order_release);
    }
  }
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  const pid_t process;
  std::atomic<uint32_t> call{0};
  std::atomic<int> running{0};
  std::atomic<bool> stopping{false};
  const std::function<void(int)> *current = nullptr;
  std::vector<std::thread> workers;
};

} // namespace intaglio
