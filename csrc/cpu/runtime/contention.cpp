// Makes waiting threads of libgomp (GCC's OpenMP runtime) sleep early, and undoes it. Threads spin for only a short
// time while libgomp manages more of them than there are processors (gomp_spin_count_var and
// gomp_throttled_spin_count_var in its wait.h and env.c). It counts the threads of all teams, even sleeping ones. So
// one more team, with a thread that does nothing, throttles the spinning of all. With another runtime that team has no
// effect.
#include "ladderseg/contention.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "ladderseg/openmp.h"

namespace ladderseg {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// A member counts as late, kept from its processor by another program, if the team waits for it longer than this and
// longer than the first member worked (shares are equal).
constexpr milliseconds kLate{1};

// Sleeping costs small maps a quarter of their time. So it pays if late members cost a quarter of the period; a few
// late members occur on idle machines too.
constexpr milliseconds kPeriod{1000}, kMuch{250};

// Time for which threads sleep early before the next check for late members: at first, and at most.
constexpr milliseconds kFirstRest{500}, kLongestRest{8000};

// The thread with the team that does nothing. It is never joined: a process may end, or fork, at any time.
class IdleTeam {
 public:
  explicit IdleTeam(int members) {
    std::thread([state = state_, members] {
      run_team(members, [] {});
      std::unique_lock<std::mutex> lock(state->mutex);
      state->changed.wait(lock, [&] { return state->ended; });
    }).detach();
  }

  ~IdleTeam() {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->ended = true;
    state_->changed.notify_one();
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    bool ended = false;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class Contention {
 public:
  // A member was late: the others have `waited` until now.
  void late(Clock::duration waited, Clock::time_point now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (asleep() || chosen_) return;
    if (now - begin_ > kPeriod) {
      begin_ = now - waited;
      lost_ = Clock::duration::zero();
    }
    lost_ += waited;
    if (lost_ < kMuch) return;
    begin_ = Clock::time_point();
    // Late again soon after the last time: the machine is busy for longer.
    rest_ = now - until_ < 2 * kPeriod ? std::min(2 * rest_, kLongestRest) : kFirstRest;
    const int missing = omp_get_num_procs() - omp_get_max_threads();
    try {
      team_ = std::make_unique<IdleTeam>(2 + std::max(0, missing));
    } catch (const std::system_error&) {
      return;  // the system has no thread left: results stay right, but slow
    }
    until_ = now + rest_;
    asleep_.store(true, std::memory_order_release);
  }

  // After a long enough rest, lets threads spin again to see whether members are still late.
  void look_again(Clock::time_point now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!asleep() || now < until_) return;
    team_.reset();
    until_ = now;
    asleep_.store(false, std::memory_order_release);
  }

  bool asleep() const { return asleep_.load(std::memory_order_acquire); }

 private:
  // The user's own setting of how threads wait takes precedence.
  const bool chosen_ = std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr;
  std::mutex mutex_;
  std::atomic<bool> asleep_{false};
  Clock::duration lost_{};
  Clock::time_point begin_, until_;
  milliseconds rest_ = kFirstRest;
  std::unique_ptr<IdleTeam> team_;
};

// Never destroyed: threads may work until the process ends.
Contention& contention() {
  static Contention& only = *new Contention;
  return only;
}

// Start of the present phase of the first member of the team that runs on this thread.
thread_local Clock::time_point since;
thread_local Clock::duration worked;

}  // namespace

void start_work() { since = Clock::now(); }

void start_waiting() {
  const Clock::time_point now = Clock::now();
  worked = now - since;
  since = now;
}

void end_waiting() {
  const Clock::time_point now = Clock::now();
  const Clock::duration waited = now - since;
  since = now;
  if (waited > kLate && waited > worked) {
    contention().late(waited, now);
  } else if (contention().asleep()) {
    contention().look_again(now);
  }
}

bool waits_asleep() { return contention().asleep(); }

}  // namespace ladderseg
