#include "cuda.h"

#include <pybind11/stl.h>

#include "../cuda/launch/operators.h"
#include "arguments.h"

namespace py = pybind11;

namespace ladderseg {
namespace {

using cuda::Queue;

// Where an operator runs, in Python: _core.Cuda. `allocate` takes a number of bytes and returns the address of memory that
// lives as long as this object.
Queue queue(cuda::Element element, int device, Address stream, py::function allocate, bool allow_tf32) {
  return {element, device, pointer<void>(stream),
          [allocate](int64_t bytes) { return pointer<void>(allocate(bytes).cast<Address>()); }, allow_tf32};
}

void channel_statistics(const Queue& queue, Map input, Address mean, Address variance) {
  cuda::channel_statistics(queue, {input, pointer<double>(mean), pointer<double>(variance)});
}

void affine_correction(const Queue& queue, Gradient gradient, Map output) {
  cuda::affine_correction(queue, {gradient, output});
}

void batch_norm_forward(const Queue& queue, int64_t channels, Address mean, Address variance, Address running_mean,
                        Address running_variance, Address batches, Address gamma, Address beta, double epsilon,
                        double momentum, double unbiased, Address norm_mean, Address norm_scale, Address norm_shift,
                        Address invstd) {
  cuda::batch_norm_forward(
      queue, {channels, pointer<double>(mean), pointer<double>(variance), pointer<void>(running_mean),
              pointer<void>(running_variance), pointer<int64_t>(batches), pointer<void>(gamma), pointer<void>(beta),
              epsilon, momentum, unbiased, pointer<void>(norm_mean), pointer<void>(norm_scale),
              pointer<void>(norm_shift), pointer<double>(invstd)});
}

void batch_norm_backward(const Queue& queue, int64_t channels, int64_t positions, Sums sums, Address invstd, Norm norm,
                         Address grad_gamma, Address grad_beta, Address mean, Address constant, Address slope,
                         bool accumulate) {
  cuda::batch_norm_backward(
      queue, {channels, positions, sums, pointer<double>(invstd), norm, pointer<void>(grad_gamma),
              pointer<void>(grad_beta), pointer<void>(mean), pointer<void>(constant), pointer<void>(slope),
              accumulate});
}

void bn_relu_forward(const Queue& queue, Map input, Norm norm, Map output) {
  cuda::bn_relu_forward(queue, {input, norm, output});
}

void bn_relu_backward(const Queue& queue, Map grad_output, Map input, Norm norm, Map grad_input, bool accumulate,
                      Sums sums) {
  cuda::bn_relu_backward(queue, {grad_output, input, norm, grad_input, accumulate, sums});
}

void bn_relu_conv1x1_forward(const Queue& queue, Map input, Norm norm, Address weight, Map output, Address output_mean,
                             Address output_variance) {
  cuda::bn_relu_conv1x1_forward(queue, {input, norm, pointer<void>(weight), output, pointer<double>(output_mean),
                                        pointer<double>(output_variance)});
}

void bn_relu_conv1x1_backward(const Queue& queue, Gradient grad_output, Map input, Norm norm, Address weight,
                              Map grad_input, bool accumulate, Address grad_weight, Sums sums) {
  cuda::bn_relu_conv1x1_backward(queue, {grad_output, input, norm, pointer<void>(weight), grad_input, accumulate,
                                         pointer<void>(grad_weight), sums});
}

void bn_relu_conv3x3_forward(const Queue& queue, Map input, int64_t input_first_row, Norm norm, Address weight,
                             int64_t dilation, Map output, bool accumulate, Address output_mean,
                             Address output_variance) {
  cuda::bn_relu_conv3x3_forward(queue, {input, input_first_row, norm, pointer<void>(weight), dilation, output, accumulate,
                                        pointer<double>(output_mean), pointer<double>(output_variance)});
}

void bn_relu_conv3x3_backward(const Queue& queue, Gradient grad_output, int64_t grad_first_row, Map input,
                              int64_t input_first_row, Norm norm, Address weight, int64_t dilation, Map grad_input,
                              Address grad_weight, Sums sums) {
  cuda::bn_relu_conv3x3_backward(queue, {grad_output, grad_first_row, input, input_first_row, norm, pointer<void>(weight),
                                         dilation, grad_input, pointer<void>(grad_weight), sums});
}

void bn_relu_avgpool2_forward(const Queue& queue, Map input, Norm norm, Map output) {
  cuda::bn_relu_avgpool2_forward(queue, {input, norm, output});
}

void bn_relu_avgpool2_backward(const Queue& queue, Map grad_output, Map input, Norm norm, Map grad_input,
                               bool accumulate, Sums sums) {
  cuda::bn_relu_avgpool2_backward(queue, {grad_output, input, norm, grad_input, accumulate, sums});
}

void bn_relu_maxpool_forward(const Queue& queue, Map input, Norm norm, Map output, int64_t first_row) {
  cuda::bn_relu_maxpool_forward(queue, {input, norm, output, first_row});
}

void bn_relu_maxpool_backward(const Queue& queue, Map grad_output, Map input, Norm norm, Map grad_input,
                              int64_t first_row, int64_t first_grad_row, Sums sums, Address constant, Address slope) {
  cuda::bn_relu_maxpool_backward(queue, {grad_output, input, norm, grad_input, first_row, first_grad_row, sums},
                                 pointer<void>(constant), pointer<void>(slope));
}

void upsample_forward(const Queue& queue, Map coarse, Map output, int64_t first_row, int64_t height) {
  cuda::upsample_forward(queue, {coarse, output, first_row, height});
}

void upsample_backward(const Queue& queue, Map grad_output, Map grad_coarse) {
  cuda::upsample_backward(queue, {grad_output, grad_coarse});
}

void upsample_project_concat_forward(const Queue& queue, Map coarse, Map skip, Norm norm, Address weight, Map output) {
  cuda::upsample_project_concat_forward(queue, {coarse, skip, norm, pointer<void>(weight), output});
}

void upsample_cross_entropy(const Queue& queue, Map logits, Address labels, LabelType label_type, int64_t height,
                            int64_t width, Address class_weights, int64_t ignore_index, Address loss, Map grad_logits,
                            Address invalid_pixel) {
  cuda::upsample_cross_entropy(
      queue, {logits, pointer<void>(labels), label_type, height, width, pointer<void>(class_weights), ignore_index,
              pointer<double>(loss), grad_logits, pointer<int64_t>(invalid_pixel)});
}

void upsample_argmax(const Queue& queue, Map scores, Address labels, int64_t height, int64_t width) {
  cuda::upsample_argmax(queue, {scores, pointer<uint8_t>(labels), height, width});
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
  module.def("cuda_stop_recording", &cuda::stop_recording, "The records of launches since.");
}

}  // namespace ladderseg
