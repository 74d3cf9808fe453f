// Makes the functions of `_core` from a kernel's line in kernels.def and its function in kernels.h.
#include "bind_kernels.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include "../cuda/launch/operators.h"
#include "../cuda/runtime/recorded_launches.h"
#include "kernels.h"

namespace py = pybind11;

namespace ladderseg::bindings {
namespace {

Elements elements(const Cpu& cpu) {
  const int64_t real = cuda::real_bytes(cpu.element);
  return {cuda::element_bytes(cpu.element), real, real, 1};
}

Elements elements(const cuda::Queue& queue) {
  const int64_t bytes = cuda::element_bytes(queue.element);
  return {bytes, bytes, cuda::real_bytes(queue.element), 16 / bytes};
}

// An argument in Python, where it has no name.
template <class Value>
py::arg argument() {
  return py::arg();
}

template <class Target, class... Values, class Run>
void define(py::module_& module, const char* kernel, const Run& run) {
  module.def(
      kernel,
      [kernel, run](const Target& target, Values... values) {
        run(Checks(kernel, elements(target)), target, values...);
      },
      py::arg(), argument<Values>()...);
}

const Kernels<float>& kernels(float) { return *instruction_set().float32; }
const Kernels<double>& kernels(double) { return *instruction_set().float64; }
const Kernels<BFloat16>& kernels(BFloat16) {
  const InstructionSet& set = instruction_set();
  if (!set.bfloat16) throw std::invalid_argument("instruction set " + std::string(set.name) + " has no bfloat16");
  return *set.bfloat16;
}

// Runs a kernel for elements of type T, and adds the call to the recording of this thread, if there is one.
template <class T, class Arguments>
void run_on_cpu(const char* kernel, Kernel<Arguments> Kernels<T>::* run, const Arguments& arguments, int threads) {
  (kernels(T()).*run)(arguments, threads);
  cuda::RecordedLaunches* const recorded = cuda::RecordedLaunches::started();
  if (!recorded) return;
  const auto again = [run](const void* repeated, int team) {
    (kernels(T()).*run)(*static_cast<const Arguments*>(repeated), team);
  };
  recorded->add_on_cpu(kernel, again, &arguments, sizeof(Arguments), cuda::pointer_fields<Arguments>());
}

// Releases the GIL while the kernel runs.
template <class Single, class Double, class Half, class... Values>
void define_on_cpu(py::module_& module, const char* kernel, Single (*single)(const Checks&, Values...),
                   Double (*double_)(const Checks&, Values...), Half (*half)(const Checks&, Values...),
                   Kernel<Single> Kernels<float>::* run_single, Kernel<Double> Kernels<double>::* run_double,
                   Kernel<Half> Kernels<BFloat16>::* run_half) {
  define<Cpu, Values...>(module, kernel, [=](const Checks& checks, const Cpu& cpu, Values... values) {
    const py::gil_scoped_release release;
    if (cpu.element == cuda::Element::float64)
      run_on_cpu(kernel, run_double, double_(checks, values...), cpu.threads);
    else if (cpu.element == cuda::Element::float32)
      run_on_cpu(kernel, run_single, single(checks, values...), cpu.threads);
    else
      run_on_cpu(kernel, run_half, half(checks, values...), cpu.threads);
  });
}

template <class Arguments, class... Values>
void define_on_cuda(py::module_& module, const char* kernel, Arguments (*arguments)(const Checks&, Values...),
                    void (*run)(const cuda::Queue&, const Arguments&)) {
  define<cuda::Queue, Values...>(module, kernel, [=](const Checks& checks, const cuda::Queue& queue, Values... values) {
    run(queue, arguments(checks, values...));
  });
}

}  // namespace

void register_kernels(py::module_& module) {
  std::vector<std::string> names;
#define CPU_PROBE(name, Arguments)
#define ON_CPU(name)                                                                                                \
  define_on_cpu(module, #name, arguments_of::name<float>, arguments_of::name<double>, arguments_of::name<BFloat16>, \
                &Kernels<float>::name, &Kernels<double>::name, &Kernels<BFloat16>::name);
#define ON_CUDA(name) define_on_cuda(module, #name, arguments_of::name<void>, cuda::name);
#define CPU_KERNEL(name, Arguments) \
  names.push_back(#name);           \
  ON_CPU(name)
#define CUDA_KERNEL(name, Arguments) \
  names.push_back(#name);            \
  ON_CUDA(name)
#define KERNEL(name, Arguments) \
  names.push_back(#name);       \
  ON_CPU(name)                  \
  ON_CUDA(name)
#include "ladderseg/kernels.def"
#undef ON_CPU
#undef ON_CUDA

  module.def(
      "kernel_names", [names = py::tuple(py::cast(names))] { return py::typing::Tuple<py::str, py::ellipsis>(names); },
      "The kernels of operators: functions of this module whose first argument says where they run.");
}

}  // namespace ladderseg::bindings
