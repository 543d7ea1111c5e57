// Which pixels a kernel's taps read, in both directions.

/// The taps of a kernel along one axis of a picture: tap t of place i reads the picture at origin + i * step + t *
/// tap_step.
struct TapAxis {
  int64_t size;    // of the picture
  int64_t places;  // that are computed
  int64_t origin, step;
  int64_t taps, tap_step;
};

/// Along one axis: the input places of one phase (all that lie at one distance modulo the stride) and the taps that
/// reach them. Input place first + i * stride takes tap (kernel_first + t * kernel_step) of output place origin + i + t
/// * tap_step.
struct Phase {
  int64_t first, places;
  int64_t taps, kernel_first, kernel_step;
  int64_t origin, tap_step;

  Phase(int64_t first_place, int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad)
      : first(first_place), places(divide_up(size - first_place, stride)) {
    // Tap j reaches input place p from output (p + pad - j * dilation) / stride, where that divides. Such taps are a
    // fixed step apart; they are taken backwards, so that the output places ascend.
    const int64_t step = stride / std::gcd(stride, dilation);
    int64_t lowest = 0;
    while (lowest < std::min(kernel, step) && (first + pad - lowest * dilation) % stride != 0) ++lowest;
    taps = lowest < std::min(kernel, step) ? divide_up(kernel - lowest, step) : 0;
    kernel_first = lowest + (taps - 1) * step;
    kernel_step = -step;
    origin = (first + pad - kernel_first * dilation) / stride;
    tap_step = step * dilation / stride;
  }
};
