// The Python module `_core`, which takes only numbers and tensors' memory. It checks that the memory is what a kernel
// will read and write (checks.h); the Python side checks its meaning.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <vector>

#include "addresses.h"
#include "arguments.h"
#include "bind_kernels.h"
#include "cuda.h"
#include "ladderseg/contention.h"
#include "ladderseg/conv3x3_tiles.h"
#include "ladderseg/pages.h"
#include "module_facts.h"
#include "modules.h"
#include "recorded_launches.h"

namespace py = pybind11;

namespace ladderseg::bindings {
namespace {

Cpu cpu(cuda::Element element, int threads) {
  if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
  if (element == cuda::Element::float16) throw py::value_error("there are no kernels for float16 on the CPU");
  return {element, threads};
}

double product_rate(const Cpu& cpu, int64_t repeats) {
  const py::gil_scoped_release release;
  double operations = 0.0;
  const InstructionSet& set = instruction_set();
  if (cpu.element == cuda::Element::float64)
    set.float64->product_rate({repeats, &operations}, cpu.threads);
  else if (cpu.element == cuda::Element::float32)
    set.float32->product_rate({repeats, &operations}, cpu.threads);
  else if (set.bfloat16)
    set.bfloat16->product_rate({repeats, &operations}, cpu.threads);
  else
    throw std::invalid_argument("instruction set " + std::string(set.name) + " has no bfloat16");
  return operations;
}

int64_t conv3x3_products(int64_t images, int64_t height, int64_t width, int64_t dilation, int64_t inputs,
                         int64_t outputs, bool bfloat16) {
  const TileGrid grid = conv3x3_tiles(images, height, width, dilation, inputs, outputs, bfloat16);
  return inputs * outputs * grid.products(grid.count());
}

std::vector<std::string> instruction_set_names(bool supported_only) {
  int count = 0;
  const InstructionSet* sets = instruction_sets(&count);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i)
    if (!supported_only || sets[i].supported()) names.push_back(sets[i].name);
  return names;
}

std::map<std::string, std::string> build_info() {
  std::string compiled_in;
  for (const std::string& name : instruction_set_names(false)) compiled_in += (compiled_in.empty() ? "" : " ") + name;
#if defined(__clang__)
  const char* compiler = "Clang " __clang_version__;
#else
  const char* compiler = "GCC " __VERSION__;
#endif
  return {{"version", LADDERSEG_FAST_VERSION},
          {"compiler", compiler},
          {"cxx_standard", std::to_string(__cplusplus)},
          {"build_type", LADDERSEG_BUILD_TYPE},
          {"instruction_sets", compiled_in}};
}

void choose_instruction_set(const std::string& name) {
  if (set_instruction_set(name.c_str())) return;
  std::string choices;
  for (const std::string& supported : instruction_set_names(true)) choices += " " + supported;
  throw py::value_error("instruction set '" + name + "' is not available; this build and processor have:" + choices);
}

void register_arguments(py::module_& module) {
  py::class_<Cpu>(module, "Cpu").def(py::init(&cpu), py::arg("element"), py::arg("threads"));
  py::class_<Map>(module, "FeatureMap")
      .def(py::init<Address, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>(), py::arg("data"),
           py::arg("device"), py::arg("element_bytes"), py::arg("n"), py::arg("h"), py::arg("w"), py::arg("c"),
           py::arg("pixel_stride"));
  py::class_<ImageBatch>(module, "Images")
      .def(
          py::init<Address, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>(),
          py::arg("data"), py::arg("device"), py::arg("element_bytes"), py::arg("n"), py::arg("c"), py::arg("h"),
          py::arg("w"), py::arg("stride_n"), py::arg("stride_c"), py::arg("stride_h"), py::arg("stride_w"));
  py::class_<Norm>(module, "Norm")
      .def(py::init<Memory, Memory, Memory>(), py::arg("mean"), py::arg("scale"), py::arg("shift"));
  py::class_<RunningNorm>(module, "RunningNorm")
      .def(py::init<int64_t, Memory, Memory, Memory, Memory, double, Memory, Memory>(), py::arg("channels"),
           py::arg("running_mean"), py::arg("running_variance"), py::arg("gamma"), py::arg("beta"), py::arg("epsilon"),
           py::arg("norm"), py::arg("invstd"));
  py::class_<Sums>(module, "BnSums").def(py::init<Memory, Memory>(), py::arg("masked"), py::arg("centred"));
  py::class_<Correction>(module, "Correction")
      .def(py::init<Map, Memory, Memory, Memory>(), py::arg("input"), py::arg("mean"), py::arg("constant"),
           py::arg("slope"));
  py::class_<Gradient>(module, "Gradient").def(py::init<Map, Correction>(), py::arg("grad"), py::arg("correction"));
  py::enum_<WeightForm>(module, "WeightForm")
      .value("plain", WeightForm::plain)
      .value("forward", WeightForm::forward)
      .value("backward", WeightForm::backward);
  py::class_<Weight>(module, "Weight")
      .def(py::init<Memory, bool, int64_t, int64_t, int64_t, int64_t, WeightForm, Memory>(), py::arg("source"),
           py::arg("real"), py::arg("stride"), py::arg("outputs"), py::arg("channels"), py::arg("taps"),
           py::arg("form"), py::arg("prepared"));
  py::enum_<LabelType>(module, "LabelType")
      .value("uint8", LabelType::uint8)
      .value("int32", LabelType::int32)
      .value("int64", LabelType::int64);
}

void register_processor(py::module_& module) {
  module.def("product_rate", &product_rate, py::arg("target"), py::arg("repeats"),
             "Do products in cache; returns how many operations they were.");
  module.def("conv3x3_products", &conv3x3_products, py::arg("images"), py::arg("height"), py::arg("width"),
             py::arg("dilation"), py::arg("inputs"), py::arg("outputs"), py::arg("bfloat16"),
             "Multiplications of a 3x3 convolution, or of one of its two gradients.");
  module.def(
      "advise_huge_pages", [](Address data, size_t bytes) { advise_huge_pages(pointer<void>(data), bytes); },
      py::arg("data"), py::arg("bytes"), "Ask for huge pages in a fresh buffer.");
  module.def(
      "give_back_pages", [](Address data, size_t bytes) { return give_back_pages(pointer<void>(data), bytes); },
      py::arg("data"), py::arg("bytes"), "Give a buffer's pages back to the system; False where it cannot.");
  module.def("waits_asleep", &waits_asleep,
             "Whether threads that wait for others sleep early: where another program keeps them from the processors.");
  module.def("build_info", &build_info, "What this build is made of.");
  module.def("supported_instruction_sets", [] { return instruction_set_names(true); });
  module.def("instruction_set", [] { return std::string(instruction_set().name); }, "The one in use.");
  module.def(
      "has_bfloat16", [] { return instruction_set().bfloat16 != nullptr; },
      "Whether the instruction set in use has kernels for bfloat16.");
  module.def("set_instruction_set", &choose_instruction_set, py::arg("name"),
             "Choose by name; ValueError if it is not available.");
}

}  // namespace
}  // namespace ladderseg::bindings

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of ladderseg_fast.";
  ladderseg::bindings::register_cuda(module);
  ladderseg::bindings::register_arguments(module);
  ladderseg::bindings::register_modules(module);
  ladderseg::bindings::register_module_facts(module);
  ladderseg::bindings::register_addresses(module);
  ladderseg::bindings::register_recorded_launches(module);
  ladderseg::bindings::register_kernels(module);
  ladderseg::bindings::register_processor(module);
}
