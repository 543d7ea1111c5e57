// The AMX kernel. No include guard: included once for the processor's tiles and once for those in plain C++, each time
// with another `Tiles` in sight.

/// 32 x 32 results: tiles 0 to 3; 4 and 5 hold rows of a, 6 and 7 columns of b.
inline void multiply_amx(int64_t rows, int64_t k, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t width,
                         float* out) {
  const bool two_down = rows > 16, two_across = width > 16;
  const int64_t a_bytes = stride * 2, b_bytes = width * 4, out_bytes = width * 4;
  Tiles::zero(0), Tiles::zero(1), Tiles::zero(2), Tiles::zero(3);
  for (int64_t p = 0; p < k; p += 32, b += 32 * width) {
    Tiles::load(4, a + p, a_bytes);
    Tiles::load(6, b, b_bytes);
    Tiles::dot(0, 4, 6);
    if (two_across) {
      Tiles::load(7, b + 32, b_bytes);
      Tiles::dot(1, 4, 7);
    }
    if (two_down) {
      Tiles::load(5, a + 16 * stride + p, a_bytes);
      Tiles::dot(2, 5, 6);
      if (two_across) Tiles::dot(3, 5, 7);
    }
  }
  Tiles::store(0, out, out_bytes);
  if (two_across) Tiles::store(1, out + 16, out_bytes);
  if (two_down) Tiles::store(2, out + 16 * width, out_bytes);
  if (two_down && two_across) Tiles::store(3, out + 16 * width + 16, out_bytes);
}
