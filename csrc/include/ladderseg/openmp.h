// Functions of GCC's OpenMP runtime. Its entry points are declared here, and called without #pragma omp, because every
// compiler lowers the pragmas to calls of its own runtime: the core uses torch's, which is GCC's, and so any compiler
// may build it. LLVM's and Intel's runtimes export the same names.
#pragma once

extern "C" {
int omp_get_thread_num() noexcept;
int omp_get_num_threads() noexcept;
int omp_get_max_threads() noexcept;
int omp_get_num_procs() noexcept;
// Calls function(data) on a team of `threads` (0: as many as there may be), of which the caller is one. flags: 0.
void GOMP_parallel(void (*function)(void*), void* data, unsigned threads, unsigned flags);
void GOMP_barrier();
}

namespace ladderseg {

// Calls body() on every member of a team of `threads`, or of fewer if the runtime grants fewer. It must not throw.
template <class Body>
void run_team(int threads, const Body& body) {
  const auto call = [](void* pointer) noexcept { (*static_cast<const Body*>(pointer))(); };
  GOMP_parallel(call, const_cast<void*>(static_cast<const void*>(&body)), static_cast<unsigned>(threads), 0);
}

}  // namespace ladderseg
