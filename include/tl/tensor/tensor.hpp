// Tensor: a shared handle to numbers with a shape, a type, a device and, if wanted, a gradient.
#pragma once
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/core/device.hpp"
#include "tl/core/dtype.hpp"
#include "tl/core/error.hpp"
#include "tl/core/shape.hpp"
#include "tl/tensor/backend.hpp"
#include "tl/tensor/storage.hpp"

namespace tl::inline TL_ABI {

struct AutogradMeta;  // autograd/node.hpp

/// Row-major, contiguous numbers. Copying a Tensor copies the handle: both see the same numbers and the same gradient.
/// `clone()` copies the numbers. A default-constructed Tensor is undefined and stands for "none".
///
/// PyTorch equivalent: torch.Tensor, without general strides: a permute copies.
class Tensor {
 public:
  Tensor() = default;

  // ---- making ----

  /// Undefined content.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = kCpu) {
    const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
    return Tensor(std::make_shared<Storage>(bytes, device), 0, shape, dtype);
  }

  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = kCpu) {
    Tensor out = empty(shape, dtype, device);
    out.zero_();
    return out;
  }

  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = kCpu) {
    Tensor out = empty(shape, dtype, device);
    out.fill_(value);
    return out;
  }

  static Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = kCpu) {
    return full(shape, 1.0, dtype, device);
  }

  /// A copy of `values`, in row-major order.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = kCpu) {
    require<ShapeError>(static_cast<int64_t>(values.size()) == shape.numel(), "Tensor::from: ", shape, " needs ",
                        shape.numel(), " values; got ", values.size());
    Tensor out = empty(shape, dtype_of<T>);
    if (!values.empty()) std::memcpy(out.raw_mutable_data(), values.data(), values.size_bytes());
    if (auto* const recorder = detail::Recorder::current()) recorder->constant(out.storage());
    return device.is_cpu() ? out : out.to(device);
  }

  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = kCpu) {
    return from(std::span<const T>(values), shape, device);
  }

  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape, Device device = kCpu) {
    return from(std::span<const T>(values.begin(), values.size()), shape, device);
  }

  /// A rank-0 tensor.
  static Tensor scalar(double value, DType dtype = DType::f32, Device device = kCpu) {
    return full({}, value, dtype, device);
  }

  /// A view of foreign memory, kept alive by `owner`.
  static Tensor view_of(std::shared_ptr<Storage> storage, size_t byte_offset, const Shape& shape, DType dtype) {
    return Tensor(std::move(storage), byte_offset, shape, dtype);
  }

  // ---- asking ----

  bool defined() const { return body_ != nullptr; }
  explicit operator bool() const { return defined(); }

  const Shape& shape() const { return body("shape").shape; }
  int rank() const { return shape().rank(); }
  int64_t size(int i) const { return shape()[i]; }
  int64_t numel() const { return shape().numel(); }
  DType dtype() const { return body("dtype").dtype; }
  Device device() const { return body("device").storage->device(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_of(dtype()); }

  /// The numbers, for reading. T must be the tensor's element type; on CUDA the pointer is the device's.
  template <class T>
  const T* data() const {
    check_type<T>();
    return static_cast<const T*>(raw_data());
  }

  /// The numbers, for writing: a tensor that a pending backward pass still needs is seen to have changed.
  template <class T>
  T* mutable_data() {
    check_type<T>();
    return static_cast<T*>(raw_mutable_data());
  }

  template <class T>
  std::span<const T> values() const {
    detail::refuse_while_recording("Tensor::values", "return the tensor, and read it after the call.");
    require<DeviceError>(device().is_cpu(), "Tensor::values: the tensor is on ", device(), ". Hint: x.to(kCpu).");
    return {data<T>(), static_cast<size_t>(numel())};
  }

  const void* raw_data() const {
    const Body& b = body("data");
    detail::tell_touched(b.storage, /*writes=*/false);
    return static_cast<const char*>(b.storage->data()) + b.byte_offset;
  }

  void* raw_mutable_data() {
    const Body& b = body("mutable_data");
    require<UsageError>(b.storage->writable(),
                        "Tensor: this tensor views read-only memory, such as a mapped file. "
                        "Hint: change a clone().");
    b.storage->bump_version();
    detail::tell_touched(b.storage, /*writes=*/true);
    return static_cast<char*>(b.storage->data()) + b.byte_offset;
  }

  /// The only element, as a double.
  double item() const;

  const std::shared_ptr<Storage>& storage() const { return body("storage").storage; }

  /// A number that is equal only for equal content, for what is derived from a tensor and kept. A record made
  /// meanwhile is good only while the content stays.
  uint64_t content_version() const {
    const Body& b = body("content_version");
    if (auto* const recorder = detail::Recorder::current()) recorder->derived_from(b.storage);
    return b.storage->version();
  }

  /// Whether both handles are the same tensor.
  bool is(const Tensor& other) const { return body_ == other.body_; }
  /// Equal for handles of the same tensor.
  const void* identity() const { return body_.get(); }

  /// Whether nobody else holds the numbers, so that they may be reused.
  bool is_sole_owner() const { return body_ && body_.use_count() == 1 && body_->storage.use_count() == 1; }

  // ---- copying ----

  /// The same numbers under another shape of as many elements; no gradient flows (see tl::reshape for one that does).
  Tensor alias(const Shape& shape) const {
    require<ShapeError>(shape.numel() == numel(), "alias: ", this->shape(), " cannot be seen as ", shape);
    const Body& b = body("alias");
    return Tensor(b.storage, b.byte_offset, shape, b.dtype);
  }

  /// The same numbers without history: no gradient flows through.
  Tensor detach() const { return alias(shape()); }

  Tensor clone() const {
    Tensor out = empty(shape(), dtype(), device());
    out.copy_from(*this);
    return out;
  }

  Tensor to(Device target) const {
    if (target == device()) return *this;
    Tensor out = empty(shape(), dtype(), target);
    out.copy_from(*this);
    return out;
  }

  /// Converted element by element. Integers from floats are truncated; what lies beyond their range becomes its end,
  /// and NaN 0.
  Tensor to(DType target) const;

  // ---- changing in place ----

  /// Takes over the numbers of a tensor of the same shape and type, across devices.
  void copy_from(const Tensor& source);
  void fill_(double value);
  void zero_();

  /// Takes over the memory of `source`, of the same shape, without copying; type and device follow. Handles of this
  /// tensor and its wish for a gradient stay.
  void adopt_storage(const Tensor& source) {
    require<ShapeError>(source.shape() == shape(), "adopt_storage: ", shape(), " cannot take over ", source.shape());
    const Body& from = source.body("adopt_storage");
    body_->storage = from.storage;
    body_->byte_offset = from.byte_offset;
    body_->dtype = from.dtype;
    detail::Configuration::changed();
  }

  // ---- gradient (defined in autograd/) ----

  bool requires_grad() const;
  /// Makes a leaf collect gradients, or stop; only floating tensors that no operation made.
  Tensor& set_requires_grad(bool value = true);
  /// The collected gradient; undefined when none has arrived.
  Tensor grad() const;
  void set_grad(Tensor grad);
  void zero_grad() { set_grad(Tensor()); }
  /// Adds d this / d leaf to the gradient of every leaf that asks for one; `this` has one element. Frees the graph.
  void backward() const;
  void backward(const Tensor& grad_of_this) const;

  const std::shared_ptr<AutogradMeta>& autograd() const { return body("autograd").autograd; }
  void set_autograd(std::shared_ptr<AutogradMeta> meta) { body_->autograd = std::move(meta); }

 private:
  struct Body {
    std::shared_ptr<Storage> storage;
    size_t byte_offset;
    Shape shape;
    DType dtype;
    std::shared_ptr<AutogradMeta> autograd;
  };

  Tensor(std::shared_ptr<Storage> storage, size_t byte_offset, const Shape& shape, DType dtype)
      : body_(std::make_shared<Body>(Body{std::move(storage), byte_offset, shape, dtype, nullptr})) {
    const size_t available = body_->storage->bytes();
    const size_t wanted = static_cast<size_t>(shape.numel()) * size_of(dtype);
    require<ShapeError>(byte_offset <= available && wanted <= available - byte_offset, "Tensor: ", shape, " of ", dtype,
                        " at byte ", byte_offset, " does not fit into ", available, " bytes");
  }

  const Body& body(std::string_view what) const {
    require<UsageError>(body_ != nullptr, what, ": the tensor is undefined (default-constructed, never assigned)");
    return *body_;
  }

  template <class T>
  void check_type() const {
    require<DTypeError>(dtype() == dtype_of<T>, "Tensor::data: the tensor holds ", dtype(), ", asked for ",
                        dtype_of<T>);
  }

  std::shared_ptr<Body> body_;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/tensor/tensor.inl"
#endif
