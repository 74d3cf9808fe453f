#include "cuda.h"

#include <pybind11/stl.h>

#include "../cuda/launch/operators.h"
#include "arguments.h"
#include "checks.h"

namespace py = pybind11;

namespace ladderseg {
namespace {

using cuda::Queue;

// Where an operator runs, in Python: _core.Cuda. `allocate` takes a number of bytes and returns the address of memory
// that lives as long as this object.
Queue queue(cuda::Element element, int device, Address stream, py::function allocate, bool allow_tf32) {
  return {element, device, pointer<void>(stream),
          [allocate](int64_t bytes) { return pointer<void>(allocate(bytes).cast<Address>()); }, allow_tf32};
}

Elements elements(const Queue& queue) {
  const int64_t bytes = cuda::element_bytes(queue.element);
  return {bytes, cuda::real_bytes(queue.element), 16 / bytes, true};
}

void channel_statistics(const Queue& queue, Map input, Memory mean, Memory variance) {
  check::channel_statistics(elements(queue), input, mean, variance);
  cuda::channel_statistics(queue, {input, mean.as<double>(), variance.as<double>()});
}

void affine_correction(const Queue& queue, Gradient gradient, Map output) {
  check::affine_correction(elements(queue), gradient, output);
  cuda::affine_correction(queue, {gradient, output});
}

void batch_norm_forward(const Queue& queue, int64_t channels, Memory mean, Memory variance, Memory running_mean,
                        Memory running_variance, Memory batches, Memory gamma, Memory beta, double epsilon,
                        double momentum, double unbiased, Memory norm_mean, Memory norm_scale, Memory norm_shift,
                        Memory invstd) {
  check::batch_norm_forward(elements(queue), channels, mean, variance, running_mean, running_variance, batches, gamma,
                            beta, Norm{norm_mean, norm_scale, norm_shift}, invstd);
  cuda::batch_norm_forward(
      queue, {channels, mean.as<double>(), variance.as<double>(), running_mean.as<void>(), running_variance.as<void>(),
              batches.as<int64_t>(), gamma.as<void>(), beta.as<void>(), epsilon, momentum, unbiased,
              norm_mean.as<void>(), norm_scale.as<void>(), norm_shift.as<void>(), invstd.as<double>()});
}

void batch_norm_backward(const Queue& queue, int64_t channels, int64_t positions, Sums sums, Memory invstd, Norm norm,
                         Memory grad_gamma, Memory grad_beta, Memory mean, Memory constant, Memory slope,
                         bool accumulate) {
  check::batch_norm_backward(elements(queue), channels, sums, invstd, norm, grad_gamma, grad_beta, mean, constant,
                             slope);
  cuda::batch_norm_backward(
      queue, {channels, positions, sums, invstd.as<double>(), norm, grad_gamma.as<void>(), grad_beta.as<void>(),
              mean.as<void>(), constant.as<void>(), slope.as<void>(), accumulate});
}

void bn_relu_forward(const Queue& queue, Map input, Norm norm, Map output) {
  check::bn_relu_forward(elements(queue), input, norm, output);
  cuda::bn_relu_forward(queue, {input, norm, output});
}

void bn_relu_backward(const Queue& queue, Map grad_output, Map input, Norm norm, Map grad_input, bool accumulate,
                      Sums sums) {
  check::bn_relu_backward(elements(queue), grad_output, input, norm, grad_input, sums);
  cuda::bn_relu_backward(queue, {grad_output, input, norm, grad_input, accumulate, sums});
}

void bn_relu_conv1x1_forward(const Queue& queue, Map input, Norm norm, Memory weight, Map output, Memory output_mean,
                             Memory output_variance) {
  check::bn_relu_conv1x1_forward(elements(queue), input, norm, weight, output, output_mean, output_variance);
  cuda::bn_relu_conv1x1_forward(
      queue, {input, norm, weight.as<void>(), output, output_mean.as<double>(), output_variance.as<double>()});
}

void bn_relu_conv1x1_backward(const Queue& queue, Gradient grad_output, Map input, Norm norm, Memory weight,
                              Map grad_input, bool accumulate, Memory grad_weight, Sums sums) {
  check::bn_relu_conv1x1_backward(elements(queue), grad_output, input, norm, weight, grad_input, grad_weight, sums);
  cuda::bn_relu_conv1x1_backward(
      queue, {grad_output, input, norm, weight.as<void>(), grad_input, accumulate, grad_weight.as<void>(), sums});
}

void bn_relu_conv3x3_forward(const Queue& queue, Map input, int64_t input_first_row, Norm norm, Memory weight,
                             int64_t dilation, Map output, bool accumulate, Memory output_mean,
                             Memory output_variance) {
  check::bn_relu_conv3x3_forward(elements(queue), input, input_first_row, norm, weight, dilation, output, output_mean,
                                 output_variance);
  cuda::bn_relu_conv3x3_forward(queue, {input, input_first_row, norm, weight.as<void>(), dilation, output, accumulate,
                                        output_mean.as<double>(), output_variance.as<double>()});
}

void bn_relu_conv3x3_backward(const Queue& queue, Gradient grad_output, int64_t grad_first_row, Map input,
                              int64_t input_first_row, Norm norm, Memory weight, int64_t dilation, Map grad_input,
                              Memory grad_weight, Sums sums) {
  check::bn_relu_conv3x3_backward(elements(queue), grad_output, grad_first_row, input, input_first_row, norm, weight,
                                  dilation, grad_input, grad_weight, sums);
  cuda::bn_relu_conv3x3_backward(queue, {grad_output, grad_first_row, input, input_first_row, norm, weight.as<void>(),
                                         dilation, grad_input, grad_weight.as<void>(), sums});
}

void bn_relu_avgpool2_forward(const Queue& queue, Map input, Norm norm, Map output) {
  check::bn_relu_avgpool2_forward(elements(queue), input, norm, output);
  cuda::bn_relu_avgpool2_forward(queue, {input, norm, output});
}

void bn_relu_avgpool2_backward(const Queue& queue, Map grad_output, Map input, Norm norm, Map grad_input,
                               bool accumulate, Sums sums) {
  check::bn_relu_avgpool2_backward(elements(queue), grad_output, input, norm, grad_input, sums);
  cuda::bn_relu_avgpool2_backward(queue, {grad_output, input, norm, grad_input, accumulate, sums});
}

void bn_relu_maxpool_forward(const Queue& queue, Map input, Norm norm, Map output, int64_t first_row) {
  check::bn_relu_maxpool_forward(elements(queue), input, norm, output, first_row);
  cuda::bn_relu_maxpool_forward(queue, {input, norm, output, first_row});
}

void bn_relu_maxpool_backward(const Queue& queue, Map grad_output, Map input, Norm norm, Map grad_input,
                              int64_t first_row, int64_t first_grad_row, Sums sums, Memory constant, Memory slope) {
  check::bn_relu_maxpool_backward(elements(queue), grad_output, input, norm, grad_input, first_row, first_grad_row,
                                  sums, constant, slope);
  cuda::bn_relu_maxpool_backward(queue, {grad_output, input, norm, grad_input, first_row, first_grad_row, sums},
                                 constant.as<void>(), slope.as<void>());
}

void upsample_forward(const Queue& queue, Map coarse, Map output, int64_t first_row, int64_t height) {
  check::upsample_forward(elements(queue), coarse, output, first_row, height);
  cuda::upsample_forward(queue, {coarse, output, first_row, height});
}

void upsample_backward(const Queue& queue, Map grad_output, Map grad_coarse) {
  check::upsample_backward(elements(queue), grad_output, grad_coarse);
  cuda::upsample_backward(queue, {grad_output, grad_coarse});
}

void upsample_project_concat_forward(const Queue& queue, Map coarse, Map skip, Norm norm, Memory weight, Map output) {
  check::upsample_project_concat_forward(elements(queue), coarse, skip, norm, weight, output);
  cuda::upsample_project_concat_forward(queue, {coarse, skip, norm, weight.as<void>(), output});
}

void upsample_cross_entropy(const Queue& queue, Map logits, Memory labels, LabelType label_type, int64_t height,
                            int64_t width, Memory class_weights, int64_t ignore_index, Memory loss, Map grad_logits,
                            Memory invalid_pixel) {
  check::upsample_cross_entropy(elements(queue), logits, labels, label_type, height, width, class_weights, loss,
                                grad_logits, invalid_pixel);
  cuda::upsample_cross_entropy(queue, {logits, labels.as<void>(), label_type, height, width, class_weights.as<void>(),
                                       ignore_index, loss.as<double>(), grad_logits, invalid_pixel.as<int64_t>()});
}

void upsample_argmax(const Queue& queue, Map scores, Memory labels, int64_t height, int64_t width) {
  check::upsample_argmax(elements(queue), scores, labels, height, width);
  cuda::upsample_argmax(queue, {scores, labels.as<uint8_t>(), height, width});
}

// Python's provider is never destroyed: when the process ends, the interpreter may be gone before the core is.
void set_image_provider(py::function provider) {
  auto* const held = new py::function(std::move(provider));
  cuda::set_image_provider([held](const std::string& name, int major, int minor, int driver_version) {
    const py::gil_scoped_acquire gil;
    return (*held)(name, py::make_tuple(major, minor), driver_version).cast<std::string>();
  });
}

py::tuple size(const cuda::Size& size) { return py::make_tuple(size.x, size.y, size.z); }

}  // namespace

void register_cuda(py::module_& module) {
  py::enum_<cuda::Element>(module, "Element")
      .value("float32", cuda::Element::float32)
      .value("float64", cuda::Element::float64)
      .value("float16", cuda::Element::float16)
      .value("bfloat16", cuda::Element::bfloat16);
  py::class_<Queue>(module, "Cuda")
      .def(py::init(&queue), py::arg("element"), py::arg("device"), py::arg("stream"), py::arg("allocate"),
           py::arg("allow_tf32"));
  py::class_<cuda::Record>(module, "LaunchRecord")
      .def_readonly("kernel", &cuda::Record::kernel)
      .def_property_readonly("grid", [](const cuda::Record& record) { return size(record.grid); })
      .def_property_readonly("block", [](const cuda::Record& record) { return size(record.block); })
      .def_readonly("read_bytes", &cuda::Record::read_bytes)
      .def_readonly("written_bytes", &cuda::Record::written_bytes)
      .def_readonly("operations", &cuda::Record::operations);

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
  module.def("upsample_forward", &upsample_forward);
  module.def("upsample_backward", &upsample_backward);
  module.def("upsample_project_concat_forward", &upsample_project_concat_forward);
  module.def("upsample_cross_entropy", &upsample_cross_entropy);
  module.def("upsample_argmax", &upsample_argmax);

  module.def("cuda_use_driver", &cuda::use_driver, "The driver library that devices are looked up with from now on.");
  module.def("cuda_set_image_provider", &set_image_provider,
             "provider(name, (major, minor), driver_version) -> the kernel image, bytes.");
  module.def("cuda_start_recording", &cuda::start_recording, py::arg("capability"), py::arg("multiprocessors"),
             "From now on launches are recorded and not done.");
  module.def("cuda_is_recording", &cuda::is_recording, "Whether launches are recorded and not done.");
  module.def("cuda_stop_recording", &cuda::stop_recording, "The records of launches since.");
}

}  // namespace ladderseg
