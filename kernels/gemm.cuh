// C = activation(alpha op(A) op(B) + beta C + bias), single precision on the ordinary cores; see GemmArgs.
//
//   rung      what it adds                                                           reads of A and B per product
//   gemm_v1   one thread per element of C, straight from memory                      2 loads
//   gemm_v2   16 x 16 tiles of A and B in shared memory, used by the whole block     2 shared loads, 1/8 load
//   gemm_v3   4 x 4 (or 8 x 8) elements of C per thread in registers, 16-byte loads  1/2 (1/4) shared load
//   gemm_v4   two tiles in turn: the next one is on its way while this one is        as v3, without waiting for memory
//             multiplied, and one barrier per tile instead of two
//
// The launcher uses v4, with 8 x 8 elements per thread where there are enough tiles to fill a GPU.
//
// All rungs take all transposes and any sizes, leading dimensions and alignments. Products are added in order of k.
#pragma once
#include "device/execution.cuh"
#include "device/functions.cuh"
#include "device/grid.cuh"
#include "device/pack.cuh"

namespace tl::device {

/// alpha, beta, bias and activation, and where a result goes.
struct Epilogue {
  float alpha, beta;
  const float* bias;  // [n], or null
  Activation activation;
  float* c;
  int64_t ldc;

  TL_DEVICE float result(float product, float old, int64_t col) const {
    float value = alpha * product;
    if (beta != 0) value += beta * old;
    if (bias != nullptr) value += bias[col];
    return activate(activation, value);
  }

  TL_DEVICE void store(int64_t row, int64_t col, float product) const {
    float* place = c + row * ldc + col;
    *place = result(product, beta != 0 ? *place : 0.0f, col);
  }

  /// Four neighbours in a row. Their place must be aligned to 16 bytes.
  TL_DEVICE void store_four(int64_t row, int64_t col, Pack<float, 4> products) const {
    float* place = c + row * ldc + col;
    Pack<float, 4> old{};
    if (beta != 0) old = load_pack<4>(place);
    TL_UNROLLED for (int j = 0; j < 4; ++j) products[j] = result(products[j], old[j], col + j);
    store_pack(place, products);
  }

  /// Whether every fourth element of a row of C is aligned to 16 bytes.
  TL_DEVICE bool takes_packs() const {
    return ldc % 4 == 0 && reinterpret_cast<std::uintptr_t>(c) % sizeof(Pack<float, 4>) == 0;
  }
};

/// One product of a batch: what every rung is launched with. Batches are in the grid's z.
struct GemmProblem {
  const float *a, *b;
  int64_t m, n, k, lda, ldb;
  int64_t stride_a, stride_b, stride_c;
  Epilogue epilogue;

  TL_DEVICE GemmProblem of_batch(int64_t index) const {
    GemmProblem p = *this;
    p.a += index * stride_a;
    p.b += index * stride_b;
    p.epilogue.c += index * stride_c;
    return p;
  }
};

// ---- v1

template <bool kTransposeA, bool kTransposeB>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void gemm_v1(GemmProblem batch) {
  const GemmProblem p = batch.of_batch(block_idx().z);
  for_each_in_grid(p.m * p.n, 1, [&](int64_t i) {
    const int64_t row = i / p.n, col = i % p.n;
    float sum = 0;
    for (int64_t k = 0; k < p.k; ++k) {
      const float a = p.a[kTransposeA ? k * p.lda + row : row * p.lda + k];
      const float b = p.b[kTransposeB ? col * p.ldb + k : k * p.ldb + col];
      sum = fmaf(a, b, sum);
    }
    p.epilogue.store(row, col, sum);
  });
}

// ---- v2

inline constexpr int kSquare = 16;

template <bool kTransposeA, bool kTransposeB>
TL_KERNEL TL_LAUNCH_BOUNDS(kSquare* kSquare) void gemm_v2(GemmProblem batch) {
  TL_SHARED(tile_a, float[kSquare][kSquare + 1]);
  TL_SHARED(tile_b, float[kSquare][kSquare + 1]);
  const GemmProblem p = batch.of_batch(block_idx().z);
  const int64_t tiles_n = ceil_div(p.n, kSquare);
  const int tx = static_cast<int>(thread_idx().x), ty = static_cast<int>(thread_idx().y);
  const int64_t row = block_idx().x / tiles_n * kSquare + ty, col = block_idx().x % tiles_n * kSquare + tx;
  float sum = 0;
  for (int64_t k0 = 0; k0 < p.k; k0 += kSquare) {
    const bool a_there = row < p.m && k0 + tx < p.k, b_there = k0 + ty < p.k && col < p.n;
    tile_a[ty][tx] = a_there ? p.a[kTransposeA ? (k0 + tx) * p.lda + row : row * p.lda + k0 + tx] : 0.0f;
    tile_b[ty][tx] = b_there ? p.b[kTransposeB ? col * p.ldb + k0 + ty : (k0 + ty) * p.ldb + col] : 0.0f;
    sync_block();
    TL_UNROLLED for (int k = 0; k < kSquare; ++k) sum = fmaf(tile_a[ty][k], tile_b[k][tx], sum);
    sync_block();  // before the next tiles overwrite these
  }
  if (row < p.m && col < p.n) p.epilogue.store(row, col, sum);
}

// ---- v3 and v4: a block of 16 x 16 threads, each with kPer x kPer elements of C, for a tile of kEdge = 16 kPer

inline constexpr int kSide = 16;  // threads along each edge
inline constexpr int kGemmThreads = kSide * kSide;
inline constexpr int kDepth = 16;  // of a tile along k
inline constexpr int kPad = 4;     // keeps 16-byte alignment and spreads a column over the banks

/// Brings a tile of op(A) or op(B), kEdge elements along m or n by kDepth along k, from memory to registers (fetch) and
/// from there to shared memory as [k][m or n] (store). Outside of the matrix it is zero.
template <int kEdge, bool kAlongK>  // kAlongK: neighbours in memory are neighbours in k
struct TileMover {
  static constexpr int kPacks = kEdge * kDepth / 4 / kGemmThreads;  // of four elements, for each thread

  const float* matrix;
  int64_t ld, edge_begin, edge_end, k_end;
  bool vectors;  // whether every fourth element of a row is aligned to 16 bytes
  Pack<float, 4> held[kPacks];

  TL_DEVICE TileMover(const float* source, int64_t leading, int64_t begin, int64_t end, int64_t depth)
      : matrix(source), ld(leading), edge_begin(begin), edge_end(end), k_end(depth) {
    vectors = leading % 4 == 0 && reinterpret_cast<std::uintptr_t>(source) % sizeof(Pack<float, 4>) == 0;
  }

  /// Pack `i` of this thread: its place along the edge and along k, in the tile.
  struct Place {
    int edge, k;
  };
  static TL_DEVICE Place place(int i) {
    const int number = static_cast<int>(thread_idx().x) + i * kGemmThreads;
    if constexpr (kAlongK) return {number / (kDepth / 4), number % (kDepth / 4) * 4};
    else return {number % (kEdge / 4) * 4, number / (kEdge / 4)};
  }

  TL_DEVICE void fetch(int64_t k_begin) {
    TL_UNROLLED for (int i = 0; i < kPacks; ++i) {
      const int64_t edge = edge_begin + place(i).edge, k = k_begin + place(i).k;
      const int64_t line = kAlongK ? edge : k, line_end = kAlongK ? edge_end : k_end;
      const int64_t first = kAlongK ? k : edge, end = kAlongK ? k_end : edge_end;
      const float* source = matrix + line * ld + first;
      if (vectors && line < line_end && first + 4 <= end) {
        held[i] = load_pack<4>(source);
      } else {
        TL_UNROLLED for (int j = 0; j < 4; ++j) held[i][j] = line < line_end && first + j < end ? source[j] : 0.0f;
      }
    }
  }

  template <class Tile>
  TL_DEVICE void store(Tile& tile) const {
    TL_UNROLLED for (int i = 0; i < kPacks; ++i) {
      const auto [edge, k] = place(i);
      if constexpr (kAlongK) {
        TL_UNROLLED for (int j = 0; j < 4; ++j) tile[k + j][edge] = held[i][j];
      } else {
        store_pack(&tile[k][edge], held[i]);
      }
    }
  }
};

/// A thread's elements of C. They are groups of 4 x 4, 16 * 4 apart, so that the threads of a warp read neighbouring
/// packs.
template <int kPer>
struct Accumulator {
  static constexpr int kGroups = kPer / 4;
  float sum[kPer][kPer] = {};

  static TL_DEVICE int row_of(int i) {
    return i / 4 * (kSide * 4) + static_cast<int>(thread_idx().x) / kSide * 4 + i % 4;
  }
  static TL_DEVICE int col_of(int j) {
    return j / 4 * (kSide * 4) + static_cast<int>(thread_idx().x) % kSide * 4 + j % 4;
  }

  template <class Tile>
  TL_DEVICE void multiply(const Tile& tile_a, const Tile& tile_b) {
    TL_UNROLLED for (int k = 0; k < kDepth; ++k) {
      Pack<float, 4> a[kGroups], b[kGroups];
      TL_UNROLLED for (int g = 0; g < kGroups; ++g) {
        a[g] = load_pack<4>(&tile_a[k][row_of(4 * g)]);
        b[g] = load_pack<4>(&tile_b[k][col_of(4 * g)]);
      }
      TL_UNROLLED for (int i = 0; i < kPer; ++i) {
        TL_UNROLLED for (int j = 0; j < kPer; ++j) sum[i][j] = fmaf(a[i / 4][i % 4], b[j / 4][j % 4], sum[i][j]);
      }
    }
  }

  TL_DEVICE void store(const GemmProblem& p, int64_t row_begin, int64_t col_begin) const {
    const bool packs = p.epilogue.takes_packs();
    TL_UNROLLED for (int i = 0; i < kPer; ++i) {
      const int64_t row = row_begin + row_of(i);
      if (row >= p.m) continue;
      TL_UNROLLED for (int j = 0; j < kPer; j += 4) {
        const int64_t col = col_begin + col_of(j);
        if (packs && col + 4 <= p.n) {
          p.epilogue.store_four(row, col, {{sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]}});
        } else {
          TL_UNROLLED for (int k = 0; k < 4; ++k) {
            if (col + k < p.n) p.epilogue.store(row, col + k, sum[i][j + k]);
          }
        }
      }
    }
  }
};

template <int kPer, bool kTransposeA, bool kTransposeB>
TL_KERNEL TL_LAUNCH_BOUNDS(kGemmThreads) void gemm_v3(GemmProblem batch) {
  constexpr int kEdge = kSide * kPer;
  TL_SHARED(tile_a, float[kDepth][kEdge + kPad]);
  TL_SHARED(tile_b, float[kDepth][kEdge + kPad]);
  const GemmProblem p = batch.of_batch(block_idx().z);
  const int64_t tiles_n = ceil_div(p.n, kEdge);
  const int64_t row = block_idx().x / tiles_n * kEdge, col = block_idx().x % tiles_n * kEdge;
  TileMover<kEdge, !kTransposeA> a(p.a, p.lda, row, p.m, p.k);
  TileMover<kEdge, kTransposeB> b(p.b, p.ldb, col, p.n, p.k);
  Accumulator<kPer> c;
  for (int64_t k = 0; k < p.k; k += kDepth) {
    a.fetch(k);
    b.fetch(k);
    sync_block();  // the tiles of the last round have been used
    a.store(tile_a);
    b.store(tile_b);
    sync_block();
    c.multiply(tile_a, tile_b);
  }
  c.store(p, row, col);
}

template <int kPer, bool kTransposeA, bool kTransposeB>
TL_KERNEL TL_LAUNCH_BOUNDS(kGemmThreads) void gemm_v4(GemmProblem batch) {
  constexpr int kEdge = kSide * kPer;
  TL_SHARED(tiles_a, float[2][kDepth][kEdge + kPad]);
  TL_SHARED(tiles_b, float[2][kDepth][kEdge + kPad]);
  const GemmProblem p = batch.of_batch(block_idx().z);
  const int64_t tiles_n = ceil_div(p.n, kEdge);
  const int64_t row = block_idx().x / tiles_n * kEdge, col = block_idx().x % tiles_n * kEdge;
  TileMover<kEdge, !kTransposeA> a(p.a, p.lda, row, p.m, p.k);
  TileMover<kEdge, kTransposeB> b(p.b, p.ldb, col, p.n, p.k);
  Accumulator<kPer> c;
  const auto bring = [&](int turn) {
    auto&& tile_a = tiles_a[turn];
    auto&& tile_b = tiles_b[turn];
    a.store(tile_a);
    b.store(tile_b);
  };
  a.fetch(0);
  b.fetch(0);
  bring(0);
  int turn = 0;
  for (int64_t k = 0; k < p.k; k += kDepth) {
    // One barrier a round is enough: it says that this turn's tiles are complete, and that everybody is done with the
    // other ones, which the end of the round overwrites.
    sync_block();
    const bool more = k + kDepth < p.k;
    if (more) {
      a.fetch(k + kDepth);
      b.fetch(k + kDepth);
    }
    c.multiply(tiles_a[turn], tiles_b[turn]);
    turn ^= 1;
    if (more) bring(turn);
  }
  c.store(p, row, col);
}

}  // namespace tl::device
