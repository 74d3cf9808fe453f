// The Python module `_core`: numbers and tensors' memory in, nothing else. That the memory is what a kernel will read
// and write is checked here (checks.h); what it means, on the Python side.
//
// Every operator's first argument says where it runs: a Cpu, or the Cuda of cuda.cpp. It gives the element type of
// every map and vector of the call, except those documented as another.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <vector>

#include "arguments.h"
#include "checks.h"
#include "cuda.h"
#include "ladderseg/contention.h"
#include "ladderseg/pages.h"

namespace py = pybind11;

namespace ladderseg {
namespace {

template <class T>
const Kernels<T>& kernels();
template <>
const Kernels<float>& kernels<float>() {
  return *instruction_set().float32;
}
template <>
const Kernels<double>& kernels<double>() {
  return *instruction_set().float64;
}

struct Cpu {
  bool double_precision;
  int threads;
};

Cpu cpu(bool double_precision, int threads) {
  if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
  return {double_precision, threads};
}

Elements elements(const Cpu& cpu) {
  const int64_t bytes = cpu.double_precision ? sizeof(double) : sizeof(float);
  return {bytes, bytes, 1, false};
}

// Call `run` with an element of the chosen type, with the GIL released.
template <class Run>
void dispatch(const Cpu& cpu, const Run& run) {
  py::gil_scoped_release release;
  if (cpu.double_precision)
    run(double());
  else
    run(float());
}

void channel_statistics(const Cpu& cpu, Map input, Memory mean, Memory variance) {
  check::channel_statistics(elements(cpu), input, mean, variance);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().channel_statistics({input, mean.as<double>(), variance.as<double>()}, cpu.threads);
  });
}

void affine_correction(const Cpu& cpu, Gradient gradient, Map output) {
  check::affine_correction(elements(cpu), gradient, output);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().affine_correction({gradient, output}, cpu.threads);
  });
}

void batch_norm_forward(const Cpu& cpu, int64_t channels, Memory mean, Memory variance, Memory running_mean,
                        Memory running_variance, Memory batches, Memory gamma, Memory beta, double epsilon,
                        double momentum, double unbiased, Memory norm_mean, Memory norm_scale, Memory norm_shift,
                        Memory invstd) {
  check::batch_norm_forward(elements(cpu), channels, mean, variance, running_mean, running_variance, batches, gamma,
                            beta, Norm{norm_mean, norm_scale, norm_shift}, invstd);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().batch_norm_forward(
        {channels, mean.as<double>(), variance.as<double>(), running_mean.as<T>(), running_variance.as<T>(),
         batches.as<int64_t>(), gamma.as<T>(), beta.as<T>(), epsilon, momentum, unbiased, norm_mean.as<T>(),
         norm_scale.as<T>(), norm_shift.as<T>(), invstd.as<double>()},
        cpu.threads);
  });
}

void batch_norm_backward(const Cpu& cpu, int64_t channels, int64_t positions, Sums sums, Memory invstd, Norm norm,
                         Memory grad_gamma, Memory grad_beta, Memory mean, Memory constant, Memory slope,
                         bool accumulate) {
  check::batch_norm_backward(elements(cpu), channels, sums, invstd, norm, grad_gamma, grad_beta, mean, constant, slope);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().batch_norm_backward({channels, positions, sums, invstd.as<double>(), norm, grad_gamma.as<T>(),
                                      grad_beta.as<T>(), mean.as<T>(), constant.as<T>(), slope.as<T>(), accumulate},
                                     cpu.threads);
  });
}

void bn_relu_forward(const Cpu& cpu, Map input, Norm norm, Map output) {
  check::bn_relu_forward(elements(cpu), input, norm, output);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_forward({input, norm, output}, cpu.threads);
  });
}

void bn_relu_backward(const Cpu& cpu, Map grad_output, Map input, Norm norm, Map grad_input, bool accumulate,
                      Sums sums) {
  check::bn_relu_backward(elements(cpu), grad_output, input, norm, grad_input, sums);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_backward({grad_output, input, norm, grad_input, accumulate, sums}, cpu.threads);
  });
}

void bn_relu_conv1x1_forward(const Cpu& cpu, Map input, Norm norm, Memory weight, Map output, Memory output_mean,
                             Memory output_variance) {
  check::bn_relu_conv1x1_forward(elements(cpu), input, norm, weight, output, output_mean, output_variance);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_conv1x1_forward(
        {input, norm, weight.as<T>(), output, output_mean.as<double>(), output_variance.as<double>()}, cpu.threads);
  });
}

void bn_relu_conv1x1_backward(const Cpu& cpu, Gradient grad_output, Map input, Norm norm, Memory weight, Map grad_input,
                              bool accumulate, Memory grad_weight, Sums sums) {
  check::bn_relu_conv1x1_backward(elements(cpu), grad_output, input, norm, weight, grad_input, grad_weight, sums);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_conv1x1_backward(
        {grad_output, input, norm, weight.as<T>(), grad_input, accumulate, grad_weight.as<T>(), sums}, cpu.threads);
  });
}

void bn_relu_conv3x3_forward(const Cpu& cpu, Map input, int64_t input_first_row, Norm norm, Memory weight,
                             int64_t dilation, Map output, bool accumulate, Memory output_mean,
                             Memory output_variance) {
  check::bn_relu_conv3x3_forward(elements(cpu), input, input_first_row, norm, weight, dilation, output, output_mean,
                                 output_variance);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_conv3x3_forward({input, input_first_row, norm, weight.as<T>(), dilation, output, accumulate,
                                          output_mean.as<double>(), output_variance.as<double>()},
                                         cpu.threads);
  });
}

void bn_relu_conv3x3_backward(const Cpu& cpu, Gradient grad_output, int64_t grad_first_row, Map input,
                              int64_t input_first_row, Norm norm, Memory weight, int64_t dilation, Map grad_input,
                              Memory grad_weight, Sums sums) {
  check::bn_relu_conv3x3_backward(elements(cpu), grad_output, grad_first_row, input, input_first_row, norm, weight,
                                  dilation, grad_input, grad_weight, sums);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_conv3x3_backward({grad_output, grad_first_row, input, input_first_row, norm, weight.as<T>(),
                                           dilation, grad_input, grad_weight.as<T>(), sums},
                                          cpu.threads);
  });
}

void bn_relu_avgpool2_forward(const Cpu& cpu, Map input, Norm norm, Map output) {
  check::bn_relu_avgpool2_forward(elements(cpu), input, norm, output);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_avgpool2_forward({input, norm, output}, cpu.threads);
  });
}

void bn_relu_avgpool2_backward(const Cpu& cpu, Map grad_output, Map input, Norm norm, Map grad_input, bool accumulate,
                               Sums sums) {
  check::bn_relu_avgpool2_backward(elements(cpu), grad_output, input, norm, grad_input, sums);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_avgpool2_backward({grad_output, input, norm, grad_input, accumulate, sums}, cpu.threads);
  });
}

void bn_relu_maxpool_forward(const Cpu& cpu, Map input, Norm norm, Map output, int64_t first_row) {
  check::bn_relu_maxpool_forward(elements(cpu), input, norm, output, first_row);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_maxpool_forward({input, norm, output, first_row}, cpu.threads);
  });
}

void bn_relu_maxpool_backward(const Cpu& cpu, Map grad_output, Map input, Norm norm, Map grad_input, int64_t first_row,
                              int64_t first_grad_row, Sums sums) {
  check::bn_relu_maxpool_backward(elements(cpu), grad_output, input, norm, grad_input, first_row, first_grad_row, sums,
                                  Memory(), Memory());
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().bn_relu_maxpool_backward({grad_output, input, norm, grad_input, first_row, first_grad_row, sums},
                                          cpu.threads);
  });
}

void stem_forward(const Cpu& cpu, ImageBatch images, Memory weight, Norm norm, Map output, Memory mean,
                  Memory variance) {
  check::stem_forward(elements(cpu), images, weight, norm, output, mean, variance);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().stem_forward({images, weight.as<T>(), norm, output, mean.as<double>(), variance.as<double>()},
                              cpu.threads);
  });
}

void stem_backward_sums(const Cpu& cpu, Gradient grad_output, ImageBatch images, Memory weight, Norm norm, Sums sums) {
  check::stem_backward_sums(elements(cpu), grad_output, images, weight, norm, sums);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().stem_backward_sums({grad_output, images, weight.as<T>(), norm, sums}, cpu.threads);
  });
}

void stem_backward_weight(const Cpu& cpu, Gradient grad_output, ImageBatch images, Memory weight, Norm norm,
                          Memory constant, Memory slope, Memory grad_weight) {
  check::stem_backward_weight(elements(cpu), grad_output, images, weight, norm, constant, slope, grad_weight);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().stem_backward_weight(
        {grad_output, images, weight.as<T>(), norm, constant.as<T>(), slope.as<T>(), grad_weight.as<T>()}, cpu.threads);
  });
}

void upsample_forward(const Cpu& cpu, Map coarse, Map output, int64_t first_row, int64_t height) {
  check::upsample_forward(elements(cpu), coarse, output, first_row, height);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().upsample_forward({coarse, output, first_row, height}, cpu.threads);
  });
}

void upsample_backward(const Cpu& cpu, Map grad_output, Map grad_coarse) {
  check::upsample_backward(elements(cpu), grad_output, grad_coarse);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().upsample_backward({grad_output, grad_coarse}, cpu.threads);
  });
}

void upsample_project_concat_forward(const Cpu& cpu, Map coarse, Map skip, Norm norm, Memory weight, Map output) {
  check::upsample_project_concat_forward(elements(cpu), coarse, skip, norm, weight, output);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().upsample_project_concat_forward({coarse, skip, norm, weight.as<T>(), output}, cpu.threads);
  });
}

void upsample_cross_entropy(const Cpu& cpu, Map logits, Memory labels, LabelType label_type, int64_t height,
                            int64_t width, Memory class_weights, int64_t ignore_index, Memory loss, Map grad_logits,
                            Memory invalid_pixel) {
  check::upsample_cross_entropy(elements(cpu), logits, labels, label_type, height, width, class_weights, loss,
                                grad_logits, invalid_pixel);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().upsample_cross_entropy({logits, labels.as<void>(), label_type, height, width, class_weights.as<T>(),
                                         ignore_index, loss.as<double>(), grad_logits, invalid_pixel.as<int64_t>()},
                                        cpu.threads);
  });
}

void upsample_argmax(const Cpu& cpu, Map scores, Memory labels, int64_t height, int64_t width) {
  check::upsample_argmax(elements(cpu), scores, labels, height, width);
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().upsample_argmax({scores, labels.as<uint8_t>(), height, width}, cpu.threads);
  });
}

double product_rate(const Cpu& cpu, int64_t repeats) {
  double operations = 0.0;
  dispatch(cpu, [&](auto element) {
    using T = decltype(element);
    kernels<T>().product_rate({repeats, &operations}, cpu.threads);
  });
  return operations;
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

}  // namespace
}  // namespace ladderseg

PYBIND11_MODULE(_core, module) {
  using namespace ladderseg;
  module.doc() = "The compiled core of ladderseg_fast.";

  py::class_<Cpu>(module, "Cpu").def(py::init(&cpu), py::arg("double_precision"), py::arg("threads"));
  py::class_<Map>(module, "FeatureMap")
      .def(py::init<Address, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>(), py::arg("data"),
           py::arg("device"), py::arg("element_bytes"), py::arg("n"), py::arg("h"), py::arg("w"), py::arg("c"),
           py::arg("pixel_stride"));
  py::class_<ImageBatch>(module, "Images")
      .def(
          py::init<Address, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>(),
          py::arg("data"), py::arg("device"), py::arg("element_bytes"), py::arg("n"), py::arg("c"), py::arg("h"),
          py::arg("w"), py::arg("stride_n"), py::arg("stride_c"), py::arg("stride_h"), py::arg("stride_w"));
  py::class_<Norm>(module, "BnRelu")
      .def(py::init<Memory, Memory, Memory>(), py::arg("mean"), py::arg("scale"), py::arg("shift"));
  py::class_<Sums>(module, "BnSums").def(py::init<Memory, Memory>(), py::arg("masked"), py::arg("centred"));
  py::class_<Correction>(module, "Correction")
      .def(py::init<Map, Memory, Memory, Memory>(), py::arg("input"), py::arg("mean"), py::arg("constant"),
           py::arg("slope"));
  py::class_<Gradient>(module, "Gradient").def(py::init<Map, Correction>(), py::arg("grad"), py::arg("correction"));
  py::enum_<LabelType>(module, "LabelType")
      .value("uint8", LabelType::uint8)
      .value("int32", LabelType::int32)
      .value("int64", LabelType::int64);

  module.def("channel_statistics", &channel_statistics);
  module.def("affine_correction", &affine_correction);
  module.def("batch_norm_forward", &batch_norm_forward);
  module.def("batch_norm_backward", &batch_norm_backward);
  module.def("bn_relu_forward", &bn_relu_forward);
  module.def("bn_relu_backward", &bn_relu_backward);
  module.def("bn_relu_conv1x1_forward", &bn_relu_conv1x1_forward);
  module.def("bn_relu_conv1x1_backward", &bn_relu_conv1x1_backward);
  module.def("bn_relu_conv3x3_forward", &bn_relu_conv3x3_forward);
  module.def("bn_relu_conv3x3_backward", &bn_relu_conv3x3_backward);
  module.def("bn_relu_avgpool2_forward", &bn_relu_avgpool2_forward);
  module.def("bn_relu_avgpool2_backward", &bn_relu_avgpool2_backward);
  module.def("bn_relu_maxpool_forward", &bn_relu_maxpool_forward);
  module.def("bn_relu_maxpool_backward", &bn_relu_maxpool_backward);
  module.def("stem_forward", &stem_forward);
  module.def("stem_backward_sums", &stem_backward_sums);
  module.def("stem_backward_weight", &stem_backward_weight);
  module.def("upsample_forward", &upsample_forward);
  module.def("upsample_backward", &upsample_backward);
  module.def("upsample_project_concat_forward", &upsample_project_concat_forward);
  module.def("upsample_cross_entropy", &upsample_cross_entropy);
  module.def("upsample_argmax", &upsample_argmax);

  module.def("product_rate", &product_rate, "Do products in cache; returns how many operations they were.");
  module.def(
      "advise_huge_pages", [](Address data, size_t bytes) { advise_huge_pages(pointer<void>(data), bytes); },
      "Ask for huge pages in a fresh buffer.");
  module.def(
      "give_back_pages", [](Address data, size_t bytes) { return give_back_pages(pointer<void>(data), bytes); },
      "Give a buffer's pages back to the system; False where it cannot.");
  module.def("waits_asleep", &waits_asleep,
             "Whether threads that wait for others sleep early: where another program keeps them from the processors.");
  module.def("build_info", &build_info, "What this build is made of.");
  module.def("supported_instruction_sets", [] { return instruction_set_names(true); });
  module.def("instruction_set", [] { return std::string(instruction_set().name); }, "The one in use.");
  module.def("set_instruction_set", &choose_instruction_set, "Choose by name; ValueError if it is not available.");

  register_cuda(module);
}
